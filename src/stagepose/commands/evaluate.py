"""``stagepose eval``: a model, or ready results, judged on a COCO file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose import coco
from stagepose.commands.arguments import (
    JsonFile,
    OksNms,
    OptionalCount,
    OptionalFile,
    OptionalFolder,
    OptionalName,
    changed_options,
)
from stagepose.commands.boxes import BoxFile
from stagepose.commands.console import counter, note, table, wrong_usage
from stagepose.errors import ConfigError
from stagepose.evaluation import evaluate_boxes, evaluate_keypoints, predict_dataset
from stagepose.evaluation.run import Boxes
from stagepose.images import printable
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, Predictor, PredictorConfig, load
from stagepose.runtime import Detector
from stagepose.skeleton import Skeleton
from stagepose.skeleton import resolve as resolve_skeleton
from stagepose.structures import Detections

READY = ("ground-truth", "detector")  # words that --boxes takes besides a file's name
OF_RESULTS = {"--results", "--skeleton"}  # the options that ready results leave any sense


def evaluate(
    file: JsonFile,
    *,
    images: OptionalFolder = None,
    pose: str = DEFAULT_POSE,
    detector: str = DEFAULT_DETECTOR,
    boxes: str = "ground-truth",
    results: OptionalFile = None,
    skeleton: OptionalName = None,
    flip: bool = False,
    threshold: float = 0.0,
    max_people: int = 100,
    rescoring: str = "mean-above",
    oks_nms: OksNms = "auto",
    batch: int = 8,
    out: OptionalFile = None,
    threads: OptionalCount = None,
    provider: str = "cpu",
) -> None:
    """Judge a model, or ready results, on a COCO file: COCO's ten keypoint numbers.

    With --boxes detector the person boxes are judged as well.

    Args:
        file: COCO annotation file with the truth.
        images: Folder of the pictures; by default images/ beside the file.
        pose: Pose model: a shipped name or an .onnx file.
        detector: Person detector: a shipped name or an .onnx file; used with --boxes detector only.
        boxes: Where people are looked for: "ground-truth" (the annotated boxes), "detector", or a file of COCO box
            results.
        results: Judge these COCO keypoint results instead of a model; goes with --skeleton only.
        skeleton: Keypoints of the results, and the sigmas to judge them by: a published skeleton's name or a file; by
            default those of FILE.json. A model brings its own.
        flip: Flip test: look at every person mirrored as well.
        threshold: Least score of a detected box that is looked at.
        max_people: Most people in one picture, best boxes first.
        rescoring: How a person's score is made of its joints': mean-above, mean-all or megvii.
        oks_nms: Drop a person whose OKS to a better one exceeds this, or none; by default 0.9, and none with megvii,
            whose authors drop nobody.
        batch: People in one run of the network.
        out: Write the results here, as COCO keypoint results.
        threads: CPU threads; all cores by default.
        provider: ONNX Runtime's execution provider, such as cuda.
    """
    if results is not None:
        if idle := [option for option in changed_options(evaluate, locals()) if option not in OF_RESULTS]:
            wrong_usage(f"--results judges what is there already, without a model; leave out {', '.join(idle)}")
        dataset = _judged_as(resolve_skeleton(skeleton) if skeleton else None, file)
        _report(dataset, coco.read_keypoint_results(results, dataset), None)
        return
    if skeleton is not None:
        wrong_usage("--skeleton goes with --results; a model brings its own skeleton")
    predictor = load(pose, detector if boxes == "detector" else None, threads=threads, providers=[provider], flip=flip,
                     threshold=threshold, max_people=max_people, rescoring=rescoring, batch=batch,
                     oks_nms=None if oks_nms == "none" else oks_nms)
    dataset = _judged_as(predictor.skeleton, file)
    seen: list[Detections] = []
    if predictor.detector is not None:
        predictor = Predictor(predictor.info, predictor.network, _recorded(predictor.detector, seen), predictor.config)
    folder, where = coco.images_folder(file, images), _boxes(boxes, predictor.config)
    with counter("eval") as progress:
        found = predict_dataset(predictor, dataset, folder, boxes=where, threshold=threshold, progress=progress)
    if out is not None:
        coco.write_results(out, found)
        note(f"results written to {printable(str(out))}")
    by_image = {image.id: boxes for image, boxes in zip(dataset.images, seen, strict=True)} if seen else None
    _report(dataset, found, by_image)


def _boxes(wanted: str, config: PredictorConfig) -> Boxes:
    if wanted == "ground-truth":
        return "ground-truth"
    if wanted == "detector":
        return "detector"
    if not Path(wanted).is_file():
        raise ConfigError(f"--boxes {wanted!r}: neither a file nor one of {READY}")
    found = BoxFile.read(Path(wanted)).boxes
    return {image_id: boxes.best(config.max_people, config.threshold) for image_id, boxes in found.items()}


def _recorded(detector: Detector, seen: list[Detections]) -> Detector:
    """The detector, keeping what it finds: it is asked once for every picture, in order."""
    def detect(image_HW3: NDArray[np.uint8]) -> Detections:
        seen.append(detector(image_HW3))
        return seen[-1]

    return detect


def _judged_as(wanted: Skeleton | None, file: Path) -> coco.CocoDataset:
    """The truth in the keypoints, and with the sigmas, of what is judged: mapped by name where the file has others."""
    dataset = coco.read_dataset(file)
    truth = dataset.skeleton
    if wanted is None or wanted == truth:
        return dataset
    if wanted.names != truth.names:
        common = [name for name in wanted.names if name in truth.names]
        note(f"{wanted.name!r} has {len(wanted)} keypoints, the file {len(truth)}: judged on the {len(common)} that "
             "both have")
    elif wanted.sigmas != truth.sigmas:
        note(f"judged by the sigmas of skeleton {wanted.name!r}")
    return coco.read_dataset(file, skeleton=wanted)


def _report(dataset: coco.CocoDataset, results: list[dict[str, Any]],
            detections: dict[int, Detections] | None) -> None:
    keypoints = evaluate_keypoints(dataset, results)
    rows, notes = [("keypoints", *row) for row in keypoints.rows()], keypoints.notes()
    if detections is not None:
        boxes = evaluate_boxes(dataset, detections)
        rows += [("person boxes", *row) for row in boxes.rows()]
        notes += boxes.notes()
    table(("of", "measure", "value"), rows, words=2)
    for line in notes:
        note(line)
