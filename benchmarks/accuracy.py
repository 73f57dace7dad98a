"""Accuracy and time beside published networks, in one run: ``python benchmarks/accuracy.py VAL.json`` -> accuracy.md.

With ``--peers DIR`` every pose network is put behind every source of boxes, so that one sees which part loses what.
Everything is judged by StagePose's predictor and evaluation; what differs between networks is in peers.py.
"""

from __future__ import annotations

import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro
from peers import RTMDET_FILE, TINYPOSE_FILE, RtmdetNano, TinyPose
from report import commit, processor, set_name, table
from tyro.conf import Positional

from stagepose import coco
from stagepose.cores import available_cores
from stagepose.errors import StagePoseError
from stagepose.evaluation import (
    BoxMetrics,
    KeypointMetrics,
    evaluate_boxes,
    evaluate_detector,
    evaluate_keypoints,
    ground_truth_boxes,
    predict_dataset,
)
from stagepose.evaluation.detector import LEAST_SCORE, MOST_PEOPLE, SURE
from stagepose.files import write_text
from stagepose.geometry import crop_affine, fit_box
from stagepose.images import find_images, read_image
from stagepose.oks import DEFAULT_RULE, RESCORE_RULES
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, Predictor
from stagepose.runtime import Detector, DetectorModel, PoseModel
from stagepose.structures import Detections

ROOT = Path(__file__).resolve().parents[1]
TRUTH = "ground truth"
MOST_BOXES = 100  # of a picture, best first: COCO's limit
ROUNDS = 7
SAMPLES = 24  # people, and pictures, that are timed in every round
WARM_UP = 3  # calls at the start of a round that do not count: threads of the one before are still spinning

KEYPOINT_HEADER = ("AP", "AP50", "AP75", "AP M", "AP L", "AR", "AR50", "AR75", "AR M", "AR L")
BOX_HEADER = ("AP", "AP50", "AP75", "AP S", "AP M", "AP L", "AR1", "AR10", "AR100", "AR S", "AR M", "AR L",
              "recall .5", "recall .75")
CLAIM = ("The public validation subset is part of COCO *val2017*, and so are many pictures that models are trained on "
         "here: these numbers are of this subset, by its name, and no *val2017* AP may be claimed of them.")

BoxesOf = Mapping[int, Detections]  # by image id


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What takes part, by the name it has in the tables; ours first."""

    poses: dict[str, Predictor]
    detectors: dict[str, Detector]
    notes: tuple[str, ...]  # which file, which runtime
    timed_only: dict[str, Predictor]  # another setting of a network above, whose accuracy is not asked


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Keypoints of one pose network in boxes of one source."""

    boxes: str
    pose: str
    flip: bool
    metrics: KeypointMetrics


def main(
    file: Positional[Annotated[Path, tyro.conf.arg(metavar="VAL.json")]],
    *,
    images: Path | None = None,
    negatives: Path | None = None,
    lsp: Path | None = None,
    pose: str = DEFAULT_POSE,
    detector: str = DEFAULT_DETECTOR,
    peers: Path | None = None,
    threads: int = 2,
    first: int | None = None,
    out: Path = ROOT / "benchmarks/accuracy.md",
) -> None:
    """Measure accuracy and time, and write them down.

    Args:
        file: COCO keypoint file to judge by.
        images: Folder of its pictures; by default images/ beside it.
        negatives: Folder of pictures without people; by default negatives/ beside the file, where there is one.
        lsp: COCO keypoint file of LSP-extended, pictures in images/ beside it.
        pose: Our pose model: a shipped name or an .onnx file.
        detector: Our person detector: a shipped name or an .onnx file.
        peers: Folder with tinypose_256.xml and rtmdet_nano.onnx, or one of them.
        threads: CPU threads of every network.
        first: Only so many images of every set, for a quick try.
        out: The Markdown file to write.
    """
    started = time.perf_counter()
    cv2.setNumThreads(threads)
    networks = open_networks(pose, detector, peers, threads)
    dataset, folder = read_set(file, first), coco.images_folder(file, images)
    empty = negative_pictures(negatives or file.parent / "negatives", first, given=negatives is not None)

    found = {name: detect_all(name, finder, dataset, folder) for name, finder in networks.detectors.items()}
    alarms = {name: [limited(finder, path) for path in empty] for name, finder in networks.detectors.items()}
    judged = judge_poses(networks, dataset, folder, found)
    of_lsp = [] if lsp is None else lsp_section(lsp, networks, first)
    say("times")
    times = time_networks(networks, dataset, folder)

    lines = [
        "# Accuracy and time beside published networks", "",
        *heading(file, dataset, networks, threads, first), "",
        "## Keypoints", "", *overview(judged), "", *keypoint_table(judged), "",
        *notes_of(judged[0].metrics), "",
        "## Person boxes", "", *box_table(dataset, found, alarms), "",
        *of_lsp,
        "## Time", "", *times, "",
        f"The whole run took {(time.perf_counter() - started) / 60:.0f} minutes.", "",
    ]
    write_text(out, "\n".join(lines))
    sys.stdout.write("\n".join(lines))


def open_networks(pose: str, detector: str, peers: Path | None, threads: int) -> Networks:
    ours, finder = PoseModel(pose, threads=threads), DetectorModel(detector, threads=threads)
    poses = {ours.info.name: Predictor(ours.info, ours)}
    detectors: dict[str, Detector] = {finder.info.name: finder}
    timed_only: dict[str, Predictor] = {}
    notes = [f"`{model.info.name}`: {size_of(model.info.input_size)}, sha256 {model.info.sha256[:12]}, ONNX Runtime "
             f"{version('onnxruntime')}" for model in (ours, finder)]
    if peers is None:
        return Networks(poses=poses, detectors=detectors, notes=tuple(notes), timed_only={})
    if not any((peers / name).is_file() for name in (TINYPOSE_FILE, RTMDET_FILE)):
        raise SystemExit(f"error: --peers {peers}: holds neither {TINYPOSE_FILE} nor {RTMDET_FILE}")
    if (peers / TINYPOSE_FILE).is_file():
        tiny = TinyPose(peers / TINYPOSE_FILE, threads)
        poses[tiny.info.name] = Predictor(tiny.info, tiny)
        notes.append(f"`{tiny.info.name}`: {size_of(tiny.SIZE)}, OpenVINO {version('openvino')}, {tiny.precision}")
        as_it_likes = TinyPose(peers / TINYPOSE_FILE, threads, precision="default")
        if as_it_likes.precision != tiny.precision:
            timed_only[f"{tiny.info.name}, {as_it_likes.precision}"] = Predictor(tiny.info, as_it_likes)
    if (peers / RTMDET_FILE).is_file():
        detectors["RTMDet-nano"] = RtmdetNano(peers / RTMDET_FILE, threads)
        notes.append(f"`RTMDet-nano`: {RtmdetNano.SIDE}x{RtmdetNano.SIDE}, ONNX Runtime {version('onnxruntime')}; at "
                     f"most {RtmdetNano.MOST} boxes a picture from a score of {RtmdetNano.FLOOR} on")
    return Networks(poses=poses, detectors=detectors, notes=tuple(notes), timed_only=timed_only)


def read_set(file: Path, first: int | None) -> coco.CocoDataset:
    dataset = coco.read_dataset(file)
    if first is None:
        return dataset
    images = dataset.images[:first]
    rows_N = np.isin(dataset.image_ids, [image.id for image in images])
    columns = ("ids", "image_ids", "boxes_xyxy", "keypoints", "areas", "crowd", "num_keypoints")
    return replace(dataset, images=images, **{name: getattr(dataset, name)[rows_N] for name in columns})


def negative_pictures(folder: Path, first: int | None, *, given: bool) -> list[Path]:
    return find_images([folder])[:first] if given or folder.is_dir() else []


def detect_all(name: str, detector: Detector, dataset: coco.CocoDataset, folder: Path) -> BoxesOf:
    say(f"boxes of {name}")
    return {image.id: limited(detector, folder / image.file_name) for image in dataset.images}


def limited(detector: Detector, path: Path) -> Detections:
    return detector(read_image(path).pixels).best(MOST_BOXES)


def judge_poses(networks: Networks, dataset: coco.CocoDataset, folder: Path,
                found: Mapping[str, BoxesOf]) -> list[Judged]:
    """Every network in everybody's boxes; with the flip test too in true ones and in those of its own side."""
    sides = set(zip(found, networks.poses, strict=False))
    judged = []
    best = {source: {i: b.best(MOST_PEOPLE, LEAST_SCORE) for i, b in boxes.items()} for source, boxes in found.items()}
    for source, boxes in {TRUTH: ground_truth_boxes(dataset), **best}.items():
        for pose, predictor in networks.poses.items():
            for flip in (False, True) if source == TRUTH or (source, pose) in sides else (False,):
                say(f"{pose}, boxes: {source}" + ", flip" * flip)
                results = predict_dataset(predictor, dataset, folder, boxes=boxes, flip=flip)
                judged.append(Judged(boxes=source, pose=pose, flip=flip, metrics=evaluate_keypoints(dataset, results)))
    return judged


def time_networks(networks: Networks, dataset: coco.CocoDataset, folder: Path) -> list[str]:
    """Tables of milliseconds a person and an image, and of ratios to ours."""
    rows_N = np.flatnonzero(dataset.with_keypoints())
    people = rows_N[np.linspace(0, len(rows_N) - 1, min(SAMPLES, len(rows_N))).astype(int)]
    pixels = {number: read_image(folder / dataset.image_by_id[number].file_name).pixels
              for number in dataset.image_ids[people].tolist()}
    seen = [(pixels[number], box) for number, box in zip(dataset.image_ids[people].tolist(),
                                                         dataset.boxes_xyxy[people], strict=True)]
    networks_alone: dict[str, list[Callable[[], object]]] = {}
    whole: dict[str, list[Callable[[], object]]] = {}
    for name, predictor in {**networks.poses, **networks.timed_only}.items():
        size, padding = predictor.info.input_size, predictor.info.box_padding
        crops = [crop_affine(fit_box(box, size[0] / size[1], padding), size).warp(image, size) for image, box in seen]
        networks_alone[name] = [partial(predictor.network, crop[None]) for crop in crops]
        whole[name] = [partial(predictor.keypoints, image, box[None]) for image, box in seen]
    finding: dict[str, list[Callable[[], object]]] = {
        name: [partial(finder, image) for image in pixels.values()] for name, finder in networks.detectors.items()
    }
    return [
        f"Medians over {ROUNDS} rounds of {len(seen)} people, one at a time, and {len(pixels)} pictures; networks take "
        f"turns within a round, and the first {WARM_UP} calls of a turn do not count. In brackets the fastest and the "
        "slowest round.", "",
        "| | ms | times ours |", "|---|---|---|",
        *time_rows("crop to heatmaps", in_rounds(networks_alone)),
        *time_rows("picture and box to keypoints, no flip", in_rounds(whole)),
        *time_rows("picture to boxes", in_rounds(finding)),
    ]


def in_rounds(calls: Mapping[str, Sequence[Callable[[], object]]]) -> dict[str, list[float]]:
    """Median milliseconds of a call in every round, by network."""
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, its_calls in calls.items():
            for call in its_calls[:WARM_UP]:
                call()
            rounds[name].append(statistics.median(milliseconds(call) for call in its_calls))
    return rounds


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def time_rows(what: str, rounds: Mapping[str, Sequence[float]]) -> list[str]:
    ours = statistics.median(next(iter(rounds.values())))
    return [f"| {name}: {what} | {statistics.median(its):.1f} ({min(its):.1f} to {max(its):.1f}) | "
            f"{statistics.median(its) / ours:.2f} |" for name, its in rounds.items()]


def heading(file: Path, dataset: coco.CocoDataset, networks: Networks, threads: int, first: int | None) -> list[str]:
    people = int(dataset.with_keypoints().sum())
    lines = [
        f"`{command_line()}`, commit {commit()}, {date.today()}, {available_cores()} cores ({processor()}), networks "
        f"on {threads} thread{'s' * (threads > 1)}, Python {platform.python_version()}.", "",
        f"Judged on `{set_name(file)}`: {len(dataset.images)} images, {people} people with keypoints, "
        f"{int((~dataset.crowd).sum())} people boxed. {CLAIM}", "",
        *(f"- {note}" for note in networks.notes),
    ]
    return lines if first is None else [f"**A try on the first {first} images: these numbers mean nothing.**", "",
                                        *lines]


def overview(judged: Sequence[Judged]) -> list[str]:
    """AP without flip by source of boxes and pose network: down a column boxes differ, along a row networks."""
    ap = {(one.boxes, one.pose): one.metrics.ap for one in judged if not one.flip}
    sources, poses = (list(dict.fromkeys(names)) for names in zip(*ap, strict=True))
    return table(["AP, no flip: boxes of", *poses],
                 [[source, *(number(ap[source, pose]) for pose in poses)] for source in sources])


def keypoint_table(judged: Iterable[Judged]) -> list[str]:
    rows = [[one.boxes, one.pose + ", flip" * one.flip, *ten_numbers(one.metrics)] for one in judged]
    return table(["boxes", "keypoints", *KEYPOINT_HEADER], rows)


def ten_numbers(m: KeypointMetrics) -> list[str]:
    return [number(value) for value in (m.ap, m.ap50, m.ap75, m.ap_medium, m.ap_large,
                                        m.ar, m.ar50, m.ar75, m.ar_medium, m.ar_large)]


def notes_of(metrics: KeypointMetrics) -> list[str]:
    """What was counted, but not of which results: that differs from row to row."""
    return [f"{metrics.people} people in {metrics.images} images; {metrics.ignored} crowds or people without labelled "
            f"keypoints ignored. Boxes of the ground truth have score 1; of a detector its {MOST_PEOPLE} best of at "
            f"least {LEAST_SCORE}. All networks' people are ranked by StagePose's rule ({DEFAULT_RULE}, one from "
            f"an OKS of {RESCORE_RULES[DEFAULT_RULE].nms or 1.0:g} on)."]


def box_table(dataset: coco.CocoDataset, found: Mapping[str, BoxesOf],
              alarms: Mapping[str, Sequence[Detections]]) -> list[str]:
    rows = []
    for name, boxes in found.items():
        rows.append([name, str(len(dataset.images)), *box_numbers(evaluate_boxes(dataset, boxes)), ""])
        if alarms[name]:
            more = evaluate_detector(dataset, boxes, alarms[name])
            rows.append([name, f"{len(dataset.images)} + {len(alarms[name])} without people",
                         *box_numbers(more.boxes), f"{more.false_alarms:.2f}"])
    return table(["detector", "images", *BOX_HEADER, f"boxes >= {SURE} a picture without people"], rows)


def box_numbers(m: BoxMetrics) -> list[str]:
    return [number(value) for value in (m.ap, m.ap50, m.ap75, m.ap_small, m.ap_medium, m.ap_large, m.ar1, m.ar10,
                                        m.ar100, m.ar_small, m.ar_medium, m.ar_large, m.recall50, m.recall75)]


def lsp_section(file: Path, networks: Networks, first: int | None) -> list[str]:
    dataset = read_set(file, first)
    judged = judge_poses(networks, dataset, coco.images_folder(file), {})
    return ["## LSP-extended", "",
            f"`{set_name(file)}`: {len(dataset.images)} images with one labelled person each, judged on the joints of "
            "COCO that LSP has (no face). Areas are estimates from the joints, so this AP compares with no other.", "",
            *keypoint_table(judged), ""]


def number(value: float) -> str:
    return "–" if value < 0 else f"{value:.3f}"  # COCO says -1 where nothing was there to be found


def size_of(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"  # height first, as networks are called


def command_line() -> str:
    """The command as anybody would type it: of folders of this machine only the last name stays."""
    options = [word.rpartition("=") for word in sys.argv[1:]]
    words = [name + equals + (set_name(Path(value)) if value.startswith(("/", ".")) else value)
             for name, equals, value in options]
    return shlex.join(["python", "benchmarks/accuracy.py", *words])


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except StagePoseError as error:
        raise SystemExit(f"error: {error}") from None
