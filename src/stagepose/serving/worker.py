"""A worker process for pictures: ``python -m stagepose.serving.worker``, started and fed by pool.py.

All that touches what a client has sent happens here: form data, the picture's file, the networks. Whatever goes wrong
with it, up to a crash, costs one answer. The process ends with the server, when its end of the pipe is closed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import IO, Any

from stagepose.coco import person_result
from stagepose.draw import draw_people
from stagepose.errors import ConfigError, ImageError, StagePoseError
from stagepose.images import LONGEST_SIDE, encode_image, read_image
from stagepose.predictor import Predictor, load
from stagepose.runtime import DetectorModel
from stagepose.serving import wire
from stagepose.serving.form import FormError, picture_in

Answer = tuple[dict[str, Any], bytes]

NAME = "image"  # what errors call the picture, whose file's name is nobody's business
JSON, MEDIA = "application/json", {"jpeg": "image/jpeg", "png": "image/png"}


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the server's business, also where all processes are told
        signal.signal(number, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, _standard_output()
    order = wire.receive(requests)
    if order is None:
        return
    try:
        predictor = load(**order[0])
    except StagePoseError as error:
        wire.send(answers, {"refusal": str(error)})
        return
    try:
        wire.send(answers, {"model": about(predictor)})
        while (request := wire.receive(requests)) is not None:
            wire.send(answers, *answer(predictor, *request))
    except BrokenPipeError:  # the server has gone
        os._exit(0)


def _standard_output() -> IO[bytes]:
    """For answers alone: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def about(predictor: Predictor) -> dict[str, Any]:
    """The answer of ``GET /v1/model``: names, never paths."""
    skeleton, detector = predictor.skeleton, predictor.detector
    return {
        "pose": predictor.info.name,
        "detector": detector.info.name if isinstance(detector, DetectorModel) else None,
        "keypoints": list(skeleton.names),
        "limbs": [list(limb) for limb in skeleton.limbs],
        "flip_pairs": [list(pair) for pair in skeleton.flip_pairs],
        "threshold": predictor.threshold,
        "flip": predictor.config.flip,
        "max_pixels": predictor.config.max_pixels,
    }


def answer(predictor: Predictor, request: Mapping[str, Any], body: bytes) -> Answer:
    """The people as JSON, or a picture of them with ``overlay``; errors are answers too."""
    try:
        picture = picture_in(body, request["content_type"])
        return look(predictor, picture, request["options"], request.get("overlay"))
    except FormError as error:
        return refusal(400, str(error))
    except (ImageError, ConfigError) as error:
        return refusal(422, str(error))
    except MemoryError:
        return refusal(413, f"{NAME}: the server has not enough memory for it; send a smaller one")
    except Exception:  # a path or worse may be in its text, which is for the server's own eyes
        traceback.print_exc()
        return refusal(500, "the server failed at this picture; its log says why")


def look(predictor: Predictor, file: bytes, options: Mapping[str, Any], overlay: Mapping[str, Any] | None) -> Answer:
    predictor = predictor.with_config(**options)
    picture = read_image(file, max_pixels=predictor.config.max_pixels, name=NAME)
    people = predictor.people(picture)
    height, width = picture.pixels.shape[:2]
    if overlay is not None:
        kind = "png" if max(height, width) > LONGEST_SIDE["JPEG"] else overlay["format"]
        drawn = draw_people(picture, people, colours=overlay["colours"], labels=overlay["labels"])
        return {"status": 200, "type": MEDIA[kind]}, encode_image(drawn, f".{kind}", NAME)
    found = {"width": width, "height": height, "people": [person_result(person) for person in people],
             "notices": list(picture.notices)}
    return {"status": 200, "type": JSON}, json.dumps(found).encode()


def refusal(status: int, text: str) -> Answer:
    return {"status": status, "type": JSON}, json.dumps({"error": text}).encode()


if __name__ == "__main__":
    main()
