"""Our person detector beside RTMDet-nano, what its settings do, and what its relatives cost -> detector.md.

``python benchmarks/detector.py VAL.json --peers DIR``. Everything is judged by StagePose's evaluation; the times of all
networks are taken in turns within one run. ``pip install -e '.[train]'`` first: settings are tried on the network.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import onnxruntime
import torch
import tyro
from accuracy import CLAIM, in_rounds, negative_pictures, number, read_set, say, time_rows
from peers import RTMDET_FILE, RtmdetNano
from report import commit, processor, set_name, table
from tyro.conf import Positional

from stagepose import coco
from stagepose.cores import available_cores
from stagepose.errors import StagePoseError
from stagepose.evaluation import (
    DetectorMetrics,
    EndToEnd,
    detect_dataset,
    evaluate_boxes,
    evaluate_detector,
    evaluate_end_to_end,
    recall_of_boxes,
)
from stagepose.files import write_text
from stagepose.images import read_image
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, load
from stagepose.runtime import Detector, DetectorModel
from stagepose.structures import Detections
from stagepose.training import checkpoint
from stagepose.training.detector.config import DetectorConfig, Keeping
from stagepose.training.detector.export import describe, to_onnx
from stagepose.training.detector.inference import PictureDetector
from stagepose.training.detector.model import Detector as Network
from stagepose.training.detector.presets import DETECTOR_PRESETS, person_small
from stagepose.training.detector.reload import stored_weights

ROOT = Path(__file__).resolve().parents[1]
PICTURES = 12  # that are timed in every round
ROUNDS, SLOW_ROUNDS = 7, 3  # the largest architecture takes seconds a picture

SETTINGS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    **{f"NMS at {iou}": {"nms": iou} for iou in (0.5, 0.7)},
    **{f"{count} proposals": {"proposals": count} for count in (180, 400)},
    "proposals' NMS at .6": {"proposal_nms": 0.6},
    "400 anchors a level": {"per_level": 400},
    **{f"{count} second looks": {"second_looks": count} for count in (0, 300)},
    "kept boxes as they are, not blended": {"blend": 0.0},
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One detector's boxes by image id, and how good they are."""

    found: Mapping[int, Detections]
    metrics: DetectorMetrics
    keypoints: EndToEnd


def main(
    file: Positional[Annotated[Path, tyro.conf.arg(metavar="VAL.json")]],
    *,
    peers: Path | None = None,
    earlier: Path | None = None,
    pose: str = DEFAULT_POSE,
    threads: int = 2,
    first: int | None = None,
    out: Path = ROOT / "benchmarks/detector.md",
) -> None:
    """Measure, and write it down.

    Args:
        file: COCO keypoint file to judge by, with images/ and negatives/ beside it.
        peers: Folder with rtmdet_nano.onnx.
        earlier: An earlier file of our detector, to show what became of it.
        pose: The pose model behind every detector.
        threads: CPU threads of every network.
        first: Only so many images, for a quick try.
        out: The Markdown file to write.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)  # numbers do not hang on it, and beside other work two threads wait for each other
    dataset, folder = read_set(file, first), coco.images_folder(file)
    empty = negative_pictures(file.parent / "negatives", first, given=False)
    judged = {name: judge(name, detector, dataset, folder, empty, pose)
              for name, detector in open_detectors(peers, earlier, 1).items()}
    shown = [read_image(folder / image.file_name).pixels for image in dataset.images[:PICTURES]]
    say("times")
    alone = processor_time({name: [partial(detector, image) for image in shown]
                            for name, detector in open_detectors(peers, earlier, 1).items()}, ROUNDS)
    cv2.setNumThreads(threads)
    times = in_rounds({name: [partial(detector, image) for image in shown]
                       for name, detector in open_detectors(peers, earlier, threads).items()})
    cv2.setNumThreads(1)
    lines = [
        "# The person detector", "", *heading(file, dataset, threads, first), "",
        "## Boxes", "", *box_table(judged), "", *marks(judged), "",
        "## Who is found, by the number of boxes kept", "", *kept_table(judged), "",
        "## Time", "", *time_section(times, alone, len(shown)), "",
        "## What the settings do", "", *settings_section(dataset, folder), "",
        "## Architectures, before any training", "", *architectures(), "",
    ]  # fmt: skip
    write_text(out, "\n".join(lines))
    sys.stdout.write("\n".join(lines))


def open_detectors(peers: Path | None, earlier: Path | None, threads: int) -> dict[str, Detector]:
    detectors: dict[str, Detector] = {DEFAULT_DETECTOR: DetectorModel(DEFAULT_DETECTOR, threads=threads)}
    if peers is not None:
        detectors["RTMDet-nano"] = RtmdetNano(peers / RTMDET_FILE, threads)
    if earlier is not None:
        detectors["person-small, first file"] = DetectorModel(earlier, threads=threads)
    return detectors


def judge(name: str, detector: Detector, dataset: coco.CocoDataset, folder: Path, empty: Sequence[Path],
          pose: str) -> Judged:
    say(f"boxes of {name}")
    found = detect_dataset(detector, dataset, folder)
    of_nobody = [detector(read_image(path).pixels) for path in empty]
    say(f"keypoints in boxes of {name}")
    keypoints = evaluate_end_to_end(load(pose, None, threads=1), dataset, folder, found)
    return Judged(found=found, metrics=evaluate_detector(dataset, found, of_nobody), keypoints=keypoints)


def box_table(judged: Mapping[str, Judged]) -> list[str]:
    header = ["detector", "AP", "AP50", "AP75", "AP S", "AP M", "AP L", "AR1", "AR10", "AR100",
              "boxes >= .3 a picture of nobody"]
    rows = []
    for name, one in judged.items():
        b = one.metrics.boxes
        numbers = (b.ap, b.ap50, b.ap75, b.ap_small, b.ap_medium, b.ap_large, b.ar1, b.ar10, b.ar100)
        rows.append([name, *map(number, numbers), f"{one.metrics.false_alarms or 0:.2f}"])
    return table(header, rows)


def marks(judged: Mapping[str, Judged]) -> list[str]:
    """What decides, in one table."""
    header = ["detector", "recall .5, with keypoints", "recall .5, everybody", "S", "M", "L", "recall .75, everybody",
              "keypoint AP in its boxes", "in annotated boxes", "share"]
    rows = []
    for name, one in judged.items():
        half, more = one.metrics.recalls
        numbers = (half.with_keypoints, half.all, half.small, half.medium, half.large, more.all,
                   one.keypoints.detected.ap, one.keypoints.annotated.ap, one.keypoints.share)
        rows.append([name, *map(number, numbers)])
    return [*table(header, rows), "",
            "Recalls at 100 boxes a picture. Keypoints of the same pose network without flip test, of a picture's 20 "
            "best boxes from .05 on; the table above includes the pictures of nobody."]


def kept_table(judged: Mapping[str, Judged]) -> list[str]:
    kept = [most for most, _, _ in next(iter(judged.values())).metrics.recalls[0].kept]
    rows = [[name, *(f"{number(everybody)} / {number(keypoints)}"
                     for _, everybody, keypoints in one.metrics.recalls[0].kept)] for name, one in judged.items()]
    return ["Recall at IoU .5 of everybody / of people with keypoints:", "",
            *table(["detector", *map(str, kept)], rows)]


def time_section(times: Mapping[str, Sequence[float]], alone: Mapping[str, float], pictures: int) -> list[str]:
    return [f"{pictures} pictures, networks in turns, median of the rounds' medians; in brackets the fastest and the "
            "slowest round. **Several other programs ran on these two cores meanwhile**: the milliseconds of a clock "
            "are many times those of an idle machine. The processor time of one thread hardly knows of them; in a "
            "fresh process all are slower, the first file most: [detector_time.md](detector_time.md).", "",
            "| by the clock | ms a picture | times ours |", "|---|---|---|", *time_rows("picture to boxes", times), "",
            *table(["processor time, one thread", "ms a picture", "times ours"],
                   [[name, f"{ms:.1f}", f"{ms / next(iter(alone.values())):.2f}"] for name, ms in alone.items()])]


def settings_section(dataset: coco.CocoDataset, folder: Path) -> list[str]:
    """Every setting on the same maps of the same pictures: the shipped weights as a torch network."""
    say("settings")
    base = Network(person_small().detector).eval()
    checkpoint.fill(base, stored_weights(DEFAULT_DETECTOR), DEFAULT_DETECTOR)
    networks = {name: variant(base, changes) for name, changes in SETTINGS.items()}
    found: dict[str, dict[int, Detections]] = {name: {} for name in networks}
    for image in dataset.images:
        pixels = torch.from_numpy(np.array(read_image(folder / image.file_name).pixels))
        remembered = Remembered(base)
        for name, network in networks.items():
            network.maps = remembered  # type: ignore[method-assign]
            with torch.inference_mode():
                boxes, scores = PictureDetector(network).eval()(pixels)
            found[name][image.id] = Detections(boxes=boxes.double().numpy(), scores=scores.double().numpy())
    rows = []
    for name, boxes in found.items():
        b, recall = evaluate_boxes(dataset, boxes), recall_of_boxes(dataset, boxes, [0.5])[0]
        at_20 = next(line for line in recall.kept if line[0] == 20)
        rows.append([name, *map(number, (b.ap, b.ap50, b.ap75, b.ar100, recall.all, recall.with_keypoints, *at_20[1:])),
                     f"{np.mean([len(one) for one in boxes.values()]):.0f}"])
    k = base.config.keeping
    return [f"Shipped: {k.proposals} proposals after NMS at {k.proposal_nms}, {k.second_looks} second looks, NMS at "
            f"{k.nms}, boxes blended by {k.blend}, scores from {k.floor} on. One thing changed at a time; chosen on "
            "this subset, so its numbers are slightly kind.", "",
            *table(["setting", "AP", "AP50", "AP75", "AR100", "recall .5", "with keypoints", "recall .5 of 20 boxes",
                    "with keypoints", "boxes a picture"], rows)]


class Remembered:
    """One picture's pyramid, computed once for all networks."""

    def __init__(self, network: Network) -> None:
        self.network, self.maps = network, None

    def __call__(self, images: torch.Tensor) -> Any:
        self.maps = self.network.maps(images) if self.maps is None else self.maps
        return self.maps


def variant(base: Network, changes: Mapping[str, Any]) -> Network:
    network = Network(replace(base.config, keeping=replace(base.config.keeping, **changes)))
    network.load_state_dict(base.state_dict())
    return network.eval()


def architectures() -> list[str]:
    """Every preset, and what was weighed for the small one, with random weights."""
    small = person_small().detector
    shapes: dict[str, DetectorConfig] = {name: make().detector for name, make in DETECTOR_PRESETS.items()}
    shapes |= {
        "person-small with two points a cell": replace(small, samples=2),
        "person-small at 384": replace(small, long_side=384),
        "person-small, width 64": replace(small, width=64),
        "person-small, regions of 5x5": replace(small, pool=5),
        "person-small, first settings": replace(small, samples=2, keeping=Keeping(
            per_level=400, proposals=180, second_looks=180, nms=0.7)),
    }
    pictures = [blobs(480, 640), blobs(640, 480)]
    rows, calls = {}, {}
    for name, config in shapes.items():
        say(name)
        torch.manual_seed(0)
        network = Network(replace(config, pretrained=False, frozen_blocks=0)).eval()
        run = session(to_onnx(network, pictures[0]))
        calls[name] = [partial(run, picture) for picture in pictures]
        head = config.width * config.pool**2 * config.head_width
        rows[name] = [f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}", f"{head / 1e6:.1f}",
                      f"{describe(network)['gmacs_of_4_to_3']:.2f}", str(config.long_side)]
    times = processor_time(calls, SLOW_ROUNDS)
    return ["The exported file of every preset with random weights, of pictures of 640x480, and what was weighed for "
            "the small one. GMACs at a 4:3 picture of the network's size, the head at its proposals and second looks. "
            "Milliseconds of processor time on one thread, as above.", "",
            *table(["network", "M parameters", "of them the head's first layer", "GMACs", "long side", "ms a picture"],
                   [[name, *row, f"{times[name]:.0f}"] for name, row in rows.items()])]


def processor_time(calls: Mapping[str, Sequence[Callable[[], object]]], rounds: int) -> dict[str, float]:
    """Milliseconds of one call, the least of the rounds: waiting for others' work does not count, on one thread."""
    least = dict.fromkeys(calls, np.inf)
    for its_calls in calls.values():
        its_calls[0]()
    for _ in range(rounds):
        for name, its_calls in calls.items():
            start = time.process_time()
            for call in its_calls:
                call()
            least[name] = min(least[name], 1e3 * (time.process_time() - start) / len(its_calls))
    return least


def session(data: bytes) -> Callable[[np.ndarray], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level, options.enable_cpu_mem_arena = 1, 3, False
    opened = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda picture: opened.run(None, {"picture": picture})


def blobs(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def heading(file: Path, dataset: coco.CocoDataset, threads: int, first: int | None) -> Iterable[str]:
    options = [word.rpartition("=") for word in sys.argv[1:]]
    words = [name + equals + (short(value) if "/" in value else value) for name, equals, value in options]
    yield (f"`{shlex.join(['python', 'benchmarks/detector.py', *words])}`, commit {commit()}, {date.today()}, "
           f"{available_cores()} cores ({processor()}), timed on {threads} threads.")
    yield ""
    yield (f"Judged on `{set_name(file)}`" + (f", its first {first} images" if first else "") +
           f": {len(dataset.images)} images, {int(dataset.with_keypoints().sum())} people with keypoints, "
           f"{int((~dataset.crowd).sum())} people boxed. {CLAIM}")


def short(path: str) -> str:
    """Of folders of this machine only the last name stays, of a model's file none."""
    return Path(path).name if path.endswith(".onnx") else set_name(Path(path))


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except StagePoseError as error:
        raise SystemExit(f"error: {error}") from None
