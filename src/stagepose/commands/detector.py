"""``stagepose eval-detector``: a person detector, or ready boxes, judged on a COCO file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from stagepose import coco
from stagepose.commands.arguments import (
    A_MODEL,
    UNSAID,
    DetectorName,
    JsonFile,
    OptionalFile,
    OptionalFolder,
    Provider,
    Threads,
)
from stagepose.commands.boxes import BoxFile
from stagepose.commands.console import counter, note, say, table, wrong_usage
from stagepose.commands.judging import read_truth
from stagepose.evaluation import detect_dataset, evaluate_detector, evaluate_end_to_end, judge, recall_rows
from stagepose.files import keep_inputs, require_place
from stagepose.images import find_images, read_image
from stagepose.lines import printable
from stagepose.predictor import DEFAULT_DETECTOR, Predictor, load
from stagepose.runtime import DetectorModel
from stagepose.structures import Detections

OptionalPose = Annotated[str | None, arg(
    metavar="NAME|FILE", help_behavior_hint=UNSAID,
    help=f"Pose model: {A_MODEL}; run on the 20 best boxes of each picture.")]


def eval_detector(
    file: JsonFile,
    *,
    images: OptionalFolder = None,
    detector: DetectorName = DEFAULT_DETECTOR,
    boxes: OptionalFile = None,
    negatives: OptionalFolder = None,
    pose: OptionalPose = None,
    flip: bool = False,
    out: OptionalFile = None,
    threads: Threads = None,
    provider: Provider = "cpu",
) -> None:
    """Judge a person detector, or existing boxes, on a COCO file: box AP and AR, and recall by number of boxes.

    With --pose, also what matters in the end: the keypoint AP in these boxes beside that in annotated ones.

    Args:
        file: COCO annotation file with the ground truth.
        images: Folder of the pictures; by default images/ beside the file.
        boxes: Judge the boxes of this COCO results file instead of a detector's; those of other categories are ignored.
        negatives: Folder of pictures without people, where every box is wrong.
        flip: Flip test of --pose.
        out: Write the boxes here, as COCO results.
    """
    if boxes is not None and (negatives is not None or detector != DEFAULT_DETECTOR):
        wrong_usage("--boxes judges what is there already; leave out --detector and --negatives")
    if flip and pose is None:
        wrong_usage("--flip is of a pose model; name one with --pose, or leave it out")
    for_nothing = {"--images": images is not None, "--threads": threads is not None, "--provider": provider != "cpu"}
    if boxes is not None and pose is None and any(for_nothing.values()):
        named = ", ".join(option for option, given in for_nothing.items() if given)
        wrong_usage(f"--boxes without --pose looks at no picture and runs no model; leave out {named}")
    judge.require_library()
    if out is not None:
        require_place(out)
        keep_inputs(out, filter(None, (file, boxes)))
    empty = find_images([negatives]) if negatives else []
    predictor = load(pose, None, threads=threads, providers=[provider], flip=flip) if pose is not None else None
    dataset = coco.read_dataset(file) if predictor is None else read_truth(file, predictor.skeleton)
    folder = coco.images_folder(file, images)
    of_nobody: list[Detections] = []
    if boxes is None:
        model = DetectorModel(detector, threads=threads, providers=[provider])
        with counter("detect") as progress:
            found = detect_dataset(model, dataset, folder, progress=progress)
        with counter("negatives") as progress:
            for done, path in enumerate(empty, start=1):
                of_nobody.append(model(read_image(path).pixels))
                progress(done, len(empty))
    else:
        found = BoxFile.read(boxes, dataset.category_id).of_set(dataset)
    try:
        if out is not None:
            coco.write_results(out, coco.box_results(found))
            note(f"boxes written to {printable(out)}")
    finally:  # a full disk must not cost the numbers
        _report(dataset, found, of_nobody, predictor, folder)


def _report(dataset: coco.CocoDataset, found: Mapping[int, Detections], of_nobody: Sequence[Detections],
            predictor: Predictor | None, folder: Path) -> None:
    """The tables: ``found`` by image id, ``of_nobody`` in pictures without people; keypoints with a predictor."""
    metrics = evaluate_detector(dataset, found, of_nobody)
    rows = [("person boxes", *row) for row in metrics.rows()]
    if predictor is not None:
        with counter("pose") as progress:
            rows += [("keypoints", *row)
                     for row in evaluate_end_to_end(predictor, dataset, folder, found, progress=progress).rows()]
    table(("of", "measure", "value"), rows, words=2)
    say("")
    table(("recall of", *(f"IoU {recall.overlap:.2f}" for recall in metrics.recalls)), recall_rows(metrics.recalls))
    for line in metrics.boxes.notes():
        note(line)
