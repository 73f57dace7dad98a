"""What ``eval``, ``compare`` and ``analyze`` share: which people are judged, found by which model, in whose boxes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from tyro.conf import arg

from stagepose import coco
from stagepose.coco import resolve_skeleton
from stagepose.commands.arguments import (
    A_MODEL,
    Batch,
    DetectorName,
    Flip,
    OksNms,
    OptionalFolder,
    OptionalName,
    OptionalResults,
    Provider,
    Threads,
    changed,
)
from stagepose.commands.boxes import BoxFile
from stagepose.commands.console import counter, note, wrong_usage
from stagepose.errors import ConfigError
from stagepose.evaluation import JudgedRun, predict_dataset
from stagepose.evaluation.run import Boxes
from stagepose.lines import printable
from stagepose.oks import DEFAULT_RULE
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, Predictor, load
from stagepose.runtime import Detector
from stagepose.skeleton import COCO_17, DEFAULT_SIGMA, SKELETONS, Skeleton, target_skeleton
from stagepose.structures import Detections

PoseNames = Annotated[tuple[str, ...], arg(
    metavar="NAME|FILE ...", help=f"Pose model: {A_MODEL}; the heatmaps of several are averaged.")]
READY = ("ground-truth", "detector")  # words that --boxes takes besides a file's name
# What means nothing for annotated boxes, which are all looked at.
OF_DETECTIONS: tuple[str, ...] = ("--detector", "--threshold", "--max-people")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model finds people.

    Attributes:
        images: Folder of the pictures; by default images/ beside the file with the ground truth.
        boxes: Boxes to run the pose network on: "ground-truth" (the annotated ones), "detector" (those of --detector),
            or a file of COCO box results.
        scales: Multi-scale test: average over crops at these scales.
        threshold: Minimum score of a detected box.
        max_people: Most boxes per picture to run the pose network on, best first.
        rescoring: How a person's score is computed from the scores of its box and its joints: geometric (ours),
            mean-above (HRNet, mmpose), mean-all or megvii.
        oks_nms: Drop a person whose OKS with a higher-scoring one exceeds this, or none; by default 0.5 with our
            rescoring, 0.9 with others, and none with megvii, whose authors drop nobody.
        soft_nms: Lower that person's score instead of dropping it.
    """

    images: OptionalFolder = None
    detector: DetectorName = DEFAULT_DETECTOR
    boxes: str = "ground-truth"
    flip: Flip = False
    scales: tuple[float, ...] = (1.0,)
    threshold: float = 0.0
    max_people: int = 100
    rescoring: str = DEFAULT_RULE
    oks_nms: OksNms = "auto"
    soft_nms: bool = False
    batch: Batch = 8
    threads: Threads = None
    provider: Provider = "cpu"

    def predictor(self, pose: tuple[str, ...]) -> Predictor:
        """The models; options that mean nothing for where the boxes come from are refused."""
        idle = {"detector": (), "ground-truth": OF_DETECTIONS}.get(self.boxes, ("--detector",))
        if named := [option for option in changed(self) if option in idle]:
            what = "are all looked at" if self.boxes == "ground-truth" else "come from no detector"
            wrong_usage(f"the boxes of --boxes {self.boxes} {what}; leave out {', '.join(named)}")
        return load(pose, self.detector if self.boxes == "detector" else None, threads=self.threads,
                    providers=[self.provider], flip=self.flip, scales=self.scales, threshold=self.threshold,
                    max_people=self.max_people, rescoring=self.rescoring, soft_nms=self.soft_nms, batch=self.batch,
                    oks_nms=None if self.oks_nms == "none" else self.oks_nms)


@dataclass(frozen=True, kw_only=True)
class PeopleOptions(ModelOptions):
    """Whom to judge: ready results, or what a model finds.

    Attributes:
        results: Judge these COCO keypoint results, or those of a run folder's best validation, instead of a model; no
            option of a model may be given with it.
        skeleton: Keypoints of the results, in their order, and the sigmas to judge by: a published skeleton's name, a
            skeleton file or an annotation file; by default those of FILE.json. A model has its own.
    """

    results: OptionalResults = None
    skeleton: OptionalName = None
    pose: PoseNames = (DEFAULT_POSE,)


@dataclass(frozen=True, eq=False)
class People:
    """Results with the truth that they are judged by."""

    dataset: coco.CocoDataset
    results: list[dict[str, Any]]
    detections: dict[int, Detections] | None = None  # of a detector that was asked, by image id


def find_people(file: Path, options: PeopleOptions, besides: tuple[str, ...] = ()) -> People:
    """Ready results read, or a model run over all pictures of the set.

    ``besides`` are options that have a use for the caller whoever is judged.
    """
    if options.results is not None:
        useful = ("--results", "--skeleton", *besides)
        if idle := [option for option in changed(options) if option not in useful]:
            wrong_usage(f"--results judges what is there already, without a model; leave out {', '.join(idle)}")
        if options.results.is_dir():
            return _of_run(JudgedRun.read(options.results), file, options.skeleton)
        dataset = read_truth(file, resolve_skeleton(options.skeleton) if options.skeleton else None)
        return People(dataset, read_results(options.results, dataset, options.skeleton))
    if options.skeleton is not None:
        wrong_usage("--skeleton goes with --results; a model brings its own skeleton")
    predictor = options.predictor(options.pose)
    return predict(predictor, read_truth(file, predictor.skeleton), file, options)


def _of_run(run: JudgedRun, file: Path, skeleton: str | None) -> People:
    if skeleton is not None:
        wrong_usage("--skeleton goes with a file of results; a run brings its own skeleton")
    dataset = read_truth(file, run.skeleton)
    return People(dataset, results_of_run(run, dataset))


def results_of_run(run: JudgedRun, dataset: coco.CocoDataset) -> list[dict[str, Any]]:
    """What a run's best validation found; that its labels were others than these is said."""
    results = run.results_on(dataset)
    if run.val is not None and run.val != dataset.sha256():
        note(f"{printable(run.folder)}: found on these pictures, of which its --val had other labels; judged "
             "by these")
    return results


def read_results(path: str | Path, dataset: coco.CocoDataset, skeleton: str | None) -> list[dict[str, Any]]:
    """COCO keypoint results for a truth; that there are none at all, as any submission may, is said.

    Their keypoints are in the order of the truth's file, as COCO has it, unless the user has named a ``skeleton``.
    """
    order = dataset.skeleton.names if skeleton else dataset.order_of_results
    results = coco.read_keypoint_results(path, dataset, order)
    if results and order != dataset.skeleton.names:
        note(f"{printable(path)}: read in the order of the truth's file, {', '.join(order)}; if it is that of "
             f"{dataset.skeleton.name}, --skeleton {dataset.skeleton.name} says so")
    if not results:
        note(f"warning: {printable(path)} is an empty list of results: nobody is found, so that AP and AR are 0 "
             "wherever there are people")
    return results


def predict(predictor: Predictor, dataset: coco.CocoDataset, file: Path, options: ModelOptions) -> People:
    """A model over all pictures of the set."""
    seen: list[Detections] = []
    if predictor.detector is not None:
        predictor = Predictor(predictor.info, predictor.network, _recorded(predictor.detector, seen), predictor.config)
    folder, where = coco.images_folder(file, options.images), _boxes(options.boxes, predictor, dataset)
    with counter("people") as progress:
        found = predict_dataset(predictor, dataset, folder, boxes=where, threshold=options.threshold, progress=progress)
    by_image = {image.id: boxes for image, boxes in zip(dataset.images, seen, strict=True)} if seen else None
    return People(dataset, found, by_image)


def read_truth(file: Path, wanted: Skeleton | None) -> coco.CocoDataset:
    """The truth in the keypoints, and with the sigmas, of what is judged: mapped by name where the file has others.

    A file that names none has those of ``wanted``, in its order, if it has as many.
    """
    dataset = coco.read_dataset(file, skeleton=wanted)
    assert dataset.own is not None
    truth = target_skeleton(dataset.own)
    if not any(c.get("keypoints") for c in dataset.raw["categories"] if c["id"] == dataset.category_id):
        note(f"{printable(file)} names no keypoints: they are taken to be those of {dataset.own.name}, in its "
             "order")
    if wanted is None:
        if guessed := [name for name in truth.names if truth.name not in SKELETONS and name not in COCO_17.names]:
            note(f"judged by a sigma of {DEFAULT_SIGMA} for {', '.join(guessed)}, whose own are not known; --skeleton "
                 "FILE.toml tells them")
    elif wanted.names != truth.names:
        common = [name for name in wanted.names if name in truth.names]
        note(f"{wanted.name!r} has {len(wanted)} keypoints, the file {len(truth)}: judged on the {len(common)} that "
             "both have")
    elif wanted.sigmas != truth.sigmas:
        note(f"judged by the sigmas of skeleton {wanted.name!r}")
    return dataset


def _boxes(wanted: str, predictor: Predictor, dataset: coco.CocoDataset) -> Boxes:
    if wanted == "ground-truth":
        return "ground-truth"
    if wanted == "detector":
        return "detector"
    if not Path(wanted).is_file():
        raise ConfigError(f"--boxes {wanted!r}: neither a file nor one of {READY}")
    found = BoxFile.read(Path(wanted), dataset.category_id).of_set(dataset)
    return {image_id: boxes.best(predictor.config.max_people, predictor.threshold) for image_id, boxes in found.items()}


def _recorded(detector: Detector, seen: list[Detections]) -> Detector:
    """The detector, keeping what it finds: it is asked once for every picture, in order."""
    def detect(image_HW3: NDArray[np.uint8]) -> Detections:
        seen.append(detector(image_HW3))
        return seen[-1]

    return detect
