"""From a recipe and files to a task, and from a finished run to a model file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stagepose.coco import CocoDataset, overlap_problems, read_dataset
from stagepose.errors import ConfigError, DatasetError
from stagepose.heatmaps import codec_from_json
from stagepose.images import read_image
from stagepose.modelinfo import ModelInfo
from stagepose.runtime import available_cores, shipped
from stagepose.skeleton import Skeleton
from stagepose.training import checkpoint, distributed
from stagepose.training.crops import CropSpec, open_or_pack, refuse_bad_pictures
from stagepose.training.detector.data import BoxData, open_or_decode, read_boxes
from stagepose.training.detector.export import export_detector
from stagepose.training.detector.model import Detector, DetectorConfig
from stagepose.training.detector.task import DetectorTask, box_judge
from stagepose.training.export import export_pose
from stagepose.training.inference import PoseInference
from stagepose.training.loop import TrainConfig, shortened
from stagepose.training.machine import Machine, use_threads
from stagepose.training.networks.efficientnet_lite import load_imagenet
from stagepose.training.networks.zoo import build, trunk_of
from stagepose.training.pose import PoseTask, fits_on_device
from stagepose.training.presets import DetectorRecipe, PoseRecipe
from stagepose.training.unfold import unfold_model_file
from stagepose.training.validation import PoseValidation

MOST_WORKERS = 8  # processes that read data for one GPU
UNFOLDED_ON = 512  # training samples that a model file's batch norms are measured on

Report = Callable[[str], None]  # a line for people


@dataclass(frozen=True)
class Source:
    """One labelled set: the annotation file, its pictures, and how often its people are shown in an epoch."""

    path: Path
    images: Path
    weight: float

    @classmethod
    def parse(cls, text: str) -> Source:
        """``FILE.json`` or ``FILE.json:WEIGHT``; pictures lie in ``images/`` beside it."""
        name, _, weight = text.rpartition(":")
        if not name.endswith(".json"):
            name, weight = text, "1"
        try:
            factor = float(weight)
        except ValueError:
            factor = math.nan
        if not 0 < factor < math.inf:
            raise ConfigError(f"--data {text}: weight {weight!r} must be a finite number above 0")
        path = Path(name)
        images = path.parent / "images"
        if not images.is_dir():
            raise DatasetError(f"{path}: no folder {images}; put the pictures there")
        return cls(path, images, factor)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What both kinds of task need besides their recipe: where packed pictures go, the judge's set, the start."""

    folder: Path
    val: Path | None
    init: str | None  # a run folder, a .safetensors file; for pose networks also a model file or a shipped name
    seed: int
    device: str
    drop_bad: bool
    report: Report


def prepare_device(name: str, threads: int | None) -> str:
    """``auto`` -> this rank's GPU where there is one, else ``cpu``; ``threads`` CPU threads, None for all cores."""
    use_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.split(":")[0] not in ("cpu", "cuda") or (name.startswith("cuda") and not torch.cuda.is_available()):
        raise ConfigError(f"device {name!r} is not here; use auto or cpu"
                          + (", or cuda" if torch.cuda.is_available() else ""))
    return f"cuda:{distributed.local_rank()}" if name == "cuda" else name


def machine_for(device: str, workers: int | None, compiled: bool | None, *, resident: bool) -> Machine:
    """What None leaves open: a GPU gets torch.compile, and readers of its own unless it holds all data itself."""
    cuda = torch.device(device).type == "cuda"
    if workers is None:
        ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers = min(MOST_WORKERS, max(1, available_cores() // ranks_here - 1)) if cuda and not resident else 0
    return Machine(device=device, workers=workers, compile=cuda if compiled is None else compiled)


def is_resident(task: object) -> bool:
    """Whether a task holds all its pixels on the device, so that nobody needs to read any."""
    return isinstance(task, PoseTask) and not task.reader.pixels


def schedule(base: TrainConfig, *, samples: int | None, minutes: float | None, steps: int | None,
             **changes: Any) -> TrainConfig:
    """A recipe's schedule with what the command line changes; None leaves the recipe's value."""
    if samples is not None and minutes is not None:
        raise ConfigError(f"give either --samples or --minutes, got {samples} and {minutes}")
    config = replace(base, **{k: v for k, v in changes.items() if v is not None})
    if samples is not None:
        config = replace(config, samples=samples, minutes=0.0)
    if minutes is not None:
        config = replace(config, samples=0, minutes=minutes)
    return shortened(config, steps) if steps else config


def pose_task(recipe: PoseRecipe, sources: Sequence[Source], skeleton: Skeleton, setting: Setting) -> PoseTask:
    """Crops packed where they are missing, a fresh or warmed-up network, and its judge."""
    validation = _pose_validation(recipe, skeleton, setting)
    for source in sources if validation else ():
        _refuse_overlap(read_dataset(source.path, skeleton=skeleton), validation.dataset)  # type: ignore[union-attr]
    spec = CropSpec(input_size=recipe.pose.size)
    stores = []
    for source in sources:
        stores.append(open_or_pack(source.path, source.images, setting.folder, spec=spec, skeleton=skeleton,
                                   drop_bad=setting.drop_bad, progress=_packing(source.path, setting.report)))
        setting.report(f"{source.path}: {len(stores[-1])} people; left out: {stores[-1].left_out}")
    torch.manual_seed(setting.seed)  # a run killed before its first checkpoint begins again with the same weights
    network = build(recipe.pose.network, len(skeleton))
    if recipe.pose.imagenet and setting.init is None:
        load_imagenet(trunk_of(network))
    task = PoseTask(network, recipe.pose, stores, [s.weight for s in sources], seed=setting.seed,
                    validation=validation, device=setting.device, resident=fits_on_device(stores, setting.device))
    if setting.init is not None and (setting.init in shipped() or setting.init.endswith(".onnx")):
        keys = [(0, i) for i in range(min(UNFOLDED_ON, task.samples_per_epoch))]
        batches = (task.batch(keys[i : i + 32]).images for i in range(0, len(keys), 32))
        task.model.load_state_dict(unfold_model_file(setting.init, task.model, batches))
        setting.report(f"starts from the model file {setting.init}")
    else:
        _warm_up(task.model, setting)
    return task


def detector_task(recipe: DetectorRecipe, sources: Sequence[Source], setting: Setting) -> DetectorTask:
    """Pictures decoded where they are missing, a fresh or warmed-up detector, and its judge."""
    if len(sources) != 1 or sources[0].weight != 1:
        raise ConfigError(f"a detector is trained on one annotation file of weight 1, got {len(sources)} files")
    path, images = sources[0].path, sources[0].images
    judge = None
    if setting.val is not None:
        truth, folder = read_dataset(setting.val), setting.val.parent / "images"
        refuse_bad_pictures(truth, folder)
        judge = box_judge(truth, folder)
    negatives = path.parent / "negatives"
    boxes = read_boxes(path, images, negatives_dir=negatives if negatives.is_dir() else None,
                       people_only=recipe.detector.categories == 1)
    if setting.val is not None:
        shared = {image.file.name for image in boxes.images} & {Path(i.file_name).name for i in truth.images}
        if shared:
            raise DatasetError(f"{setting.val}: {len(shared)} of its pictures are in {path} too, such as "
                               f"{min(shared)}; take them out of one with 'stagepose split'")
    config, augment = recipe.detector, recipe.augment
    cache = open_or_decode(boxes.images, setting.folder, max_side=round(augment.long_side * augment.zoom[1]))
    data = BoxData(boxes, cache, augment=augment, long_side=augment.long_side, seed=setting.seed)
    setting.report(f"{path}: {len(data)} pictures; left out: {boxes.left_out}")
    torch.manual_seed(setting.seed)
    model = Detector(config)
    _warm_up(model, setting)
    return DetectorTask(model, data, judge, device=setting.device)


def _pose_validation(recipe: PoseRecipe, skeleton: Skeleton, setting: Setting) -> PoseValidation | None:
    """The judge, its pictures looked at before the first step and not after the last."""
    if setting.val is None:
        return None
    dataset, images = read_dataset(setting.val, skeleton=skeleton), setting.val.parent / "images"
    refuse_bad_pictures(dataset, images)
    return PoseValidation(dataset=dataset, images_dir=images, codec=recipe.pose.codec, device=setting.device)


def _refuse_overlap(train: CocoDataset, val: CocoDataset) -> None:
    """:class:`DatasetError` when pictures are both learnt from and judged by."""
    shared = overlap_problems(train, val)
    if shared:
        raise DatasetError(f"{val.path}: {len(shared)} of its pictures are in {train.path} too, such as "
                           f"{shared[0].where}; take them out of one with 'stagepose split {train.path} --minival "
                           f"{val.path} --out DIR'")


def _packing(path: Path, report: Report) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == total or done % 1000 == 0:
            report(f"{path}: people cut out of {done} of {total} pictures")

    return progress


def _warm_up(model: torch.nn.Module, setting: Setting) -> None:
    if setting.init is not None:
        setting.report(checkpoint.fill_matching(model, checkpoint.load_weights(setting.init), str(setting.init)))


def export_run(run: Path, out: Path, *, name: str, licence: str, training_data: tuple[str, ...],
               metrics: Path | None, step: int | None, half: bool, pictures: Sequence[Path] = ()) -> str:
    """Write the averaged weights of a run as one model file; see :func:`stagepose.training.export.export_pose`.

    ``step`` None takes the best by validation, else the newest; ``pictures`` are what a detector's file is compared
    on. Returns what was compared, in words.
    """
    config = checkpoint.read_json(run / "config.json")
    weights = _weights(run, step)
    described: dict[str, Any] = {"name": name, "licence": licence, "training_data": training_data,
                                 "metrics": checkpoint.read_json(metrics) if metrics else {}}
    if config.get("kind") == "pose":
        skeleton, codec = Skeleton.from_json(config["skeleton"]), codec_from_json(config["pose"]["codec"])
        model = PoseInference(build(config["pose"]["network"], len(skeleton)), codec, config["pose"]["loss"])
        checkpoint.fill(model, weights, str(run))
        info = ModelInfo(kind="pose", input_size=codec.input_size, skeleton=skeleton, codec=codec, **described)
        made = export_pose(model.eval(), out, info, half=half)
        return (f"{made.megabytes:.1f} MB; heatmaps differ from the trained network's by {made.max_difference:.2g} of "
                "their range")
    detector = Detector(_detector_config(config["detector"]))
    checkpoint.fill(detector, weights, str(run))
    side = detector.config.long_side
    shown = [np.array(read_image(path).pixels) for path in pictures]
    boxes = export_detector(detector.eval(), out, ModelInfo(kind="detector", input_size=(side, side), **described),
                            half=half, pictures=shown)
    gap = boxes.stored
    return (f"{boxes.megabytes:.1f} MB; {gap.compared - gap.unmatched} of {gap.compared} boxes agree with the trained "
            f"detector's, within {gap.box:.2g} px and {gap.score:.2g} in score")


def _detector_config(data: dict[str, Any]) -> DetectorConfig:
    plain: dict[str, Any] = {k: tuple(map(tuple, v)) if k == "anchor_sizes" else tuple(v) if isinstance(v, list) else v
                             for k, v in data.items()}
    return DetectorConfig(**plain)


def _weights(run: Path, step: int | None) -> checkpoint.Tensors:
    best = run / "best.json"
    if step is None and best.is_file():
        step = int(checkpoint.read_json(best)["step"])
    if step is not None:
        return checkpoint.load_step(run / "steps" / f"{step:09d}").parts["ema"]
    return checkpoint.load_weights(run)
