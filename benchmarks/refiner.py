"""What a late stage would gain that sees heatmaps and no picture:
``python benchmarks/refiner.py TRAIN.json VAL.json --work DIR --labels LABELS.npz``; ``--report`` writes refiner.md.

Such a stage could learn from labels alone, and of poses without pictures there are ten times as many as with. It sees
pose-small's heatmaps, coarsely, of all joints at once, and says for every joint where the others make it likely. Its
word is multiplied with the heatmap, so that at its start it changes nothing.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from report import table
from research import Judged, arguments, difference, heading, log, oks_difference, spread, write_report
from torch import Tensor, nn
from torch.nn import functional

from stagepose import read_image
from stagepose.coco import CocoDataset, read_dataset
from stagepose.evaluation import evaluate_keypoints, predict_dataset
from stagepose.files import write_json
from stagepose.geometry import crop_affine, fit_box
from stagepose.predictor import Predictor
from stagepose.runtime import PoseModel
from stagepose.skeleton import COCO_17
from stagepose.training.losses import kl_loss
from stagepose.training.targets import encode

SEEDS = (1, 2, 3)
ARMS = {"as it ships": "no late stage", "photos": "learnt on pose-small's heatmaps of its own training people",
        "labels": "learnt on heatmaps made of labels alone", "labels, then photos": "both, as many samples of each"}
SAMPLES, BATCH, RATE = 42_000, 64, 1.5e-3
MIRROR = np.array(COCO_17.flip_index)
KINDS = {"near": 0.76, "inversion": 0.07, "swap": 0.03, "miss": 0.14}  # of pose-small's joints: analysis.md
JITTER = 0.02  # of the crop's height, standard deviation of joints that are near their place
Batch = tuple[Tensor, Tensor]  # (B, K, h, w) heatmaps seen and those wanted

DESIGN = """\
A late stage of {parameters:.1f} M parameters (2 hidden layers of 512 between coarse heatmaps of 16x12 and as coarse
corrections, 0.2 % of pose-small's work) on top of pose-small as it ships. {samples:,} samples from each source.
"photos": {people:,} people of the training file, whom pose-small has learnt from; "labels": poses of COCO train2017
({poses:,} with 6 labelled keypoints or more) without any picture, their heatmaps put together with the errors that
`stagepose analyze` counts: {kinds}. Ground-truth boxes, no flip test."""


class LateStage(nn.Module):
    """Heatmaps of probabilities (B, K, h, w) -> their logarithms, corrected by what all joints say together."""

    def __init__(self, keypoints: int, height: int, width: int, features: int = 32, hidden: int = 512) -> None:
        super().__init__()
        self.coarse = height // 4, width // 4
        cells = self.coarse[0] * self.coarse[1]
        self.seen = nn.Parameter(torch.randn(keypoints, features, cells) * cells**-0.5)
        self.between = nn.Sequential(nn.Linear(keypoints * features, hidden), nn.GELU(), nn.Dropout(0.1),
                                     nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(0.1),
                                     nn.Linear(hidden, keypoints * features))
        self.said = nn.Parameter(torch.zeros(keypoints, cells, features))

    def forward(self, maps: Tensor) -> Tensor:
        coarse = functional.adaptive_avg_pool2d(maps, self.coarse).flatten(2)
        coarse = (coarse / coarse.sum(-1, keepdim=True).clamp_min(1e-6)).sqrt()
        features = torch.einsum("bkc,kfc->bkf", coarse, self.seen)
        between = self.between(features.flatten(1)).view_as(features)
        words = torch.einsum("bkf,kcf->bkc", between, self.said).unflatten(2, self.coarse)
        return (maps / maps.sum((2, 3), keepdim=True).clamp_min(1e-6) + 1e-5).log() + functional.interpolate(
            words, size=maps.shape[2:], mode="bilinear", align_corners=False)


class Photos:
    """pose-small's heatmaps of a file's people and their keypoints in the same crops; half of each batch mirrored."""

    def __init__(self, model: PoseModel, dataset: CocoDataset, images: Path, cache: Path) -> None:
        self.codec = model.info.heatmaps_of[1]
        if not cache.is_file():
            np.savez(cache, **_heatmaps(model, dataset, images))
        held = np.load(cache)
        self.maps, self.points, self.labelled = held["maps"], held["points"], held["labelled"]

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        for _ in range(SAMPLES // BATCH):
            rows = rng.choice(len(self.maps), BATCH, replace=False)
            maps, points, labelled = self.maps[rows].astype(np.float32), self.points[rows].copy(), self.labelled[rows]
            if rng.random() < 0.5:
                maps, points, labelled = maps[:, MIRROR, :, ::-1].copy(), points[:, MIRROR], labelled[:, MIRROR]
                points[..., 0] = self.codec.input_size[0] - 1 - points[..., 0]
            yield torch.from_numpy(maps), encode(self.codec, points, labelled)


class Labels:
    """Heatmaps as a network might give them, of poses without pictures."""

    def __init__(self, model: PoseModel, file: Path) -> None:
        self.codec = model.info.heatmaps_of[1]
        held = np.load(file)
        enough = (held["visibility"] > 0).sum(1) >= 6
        centre, size = np.split(held["box_cxcywh"][enough] / 65535 * [640, 480, 640, 480], 2, axis=1)
        points = held["keypoints_xy"][enough] / 65535 * [640, 480]
        width, height = self.codec.input_size
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
        ratio = width / height
        self.points = np.stack([crop_affine(fit_box(box, ratio, model.info.box_padding), (width, height)).points(xy)
                                for box, xy in zip(boxes, points, strict=True)])
        self.labelled = held["visibility"][enough] > 0

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        for _ in range(SAMPLES // BATCH):
            rows = rng.choice(len(self.points), BATCH, replace=False)
            points, labelled = self.points[rows], self.labelled[rows]
            yield self.seen(points, labelled, rng), encode(self.codec, points, labelled)

    def seen(self, points: NDArray[np.float64], labelled: NDArray[np.bool_], rng: np.random.Generator) -> Tensor:
        """Two peaks a joint, the higher where the error's kind puts it, the lower at the joint or its mirror image."""
        width, height = self.codec.input_size
        shape = labelled.shape
        anywhere = rng.random((*shape, 2)) * [width, height]
        others = points[rng.permutation(len(points))]
        kind = rng.choice(len(KINDS), shape, p=list(KINDS.values()))
        kind[~labelled] = list(KINDS).index("miss")
        places = np.stack([points, points[:, MIRROR], others, anywhere])
        first = np.take_along_axis(places, kind[None, ..., None], 0)[0] + rng.normal(0, JITTER * height, (*shape, 2))
        second = np.where((kind == 0)[..., None], points[:, MIRROR], points)
        second[~labelled] = anywhere[~labelled][:, ::-1]
        share = torch.from_numpy(rng.beta(4, 1, shape) * 0.5 + 0.5).float()[..., None, None]
        everywhere = np.ones_like(labelled)
        return (share * encode(self.codec, first, everywhere) + (1 - share) * encode(self.codec, second, everywhere)
                + torch.from_numpy(rng.gamma(1, 0.002, shape)).float()[..., None, None])


class Corrected:
    """pose-small with the late stage behind it, a network for :class:`Predictor`."""

    def __init__(self, model: PoseModel, stage: LateStage) -> None:
        self.model, self.stage = model, stage.eval()

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        maps = torch.from_numpy(self.model(crops))
        with torch.no_grad():
            likely = self.stage(maps).flatten(2).softmax(-1).view_as(maps)
        return (likely * maps.sum((2, 3), keepdim=True)).numpy()


def _heatmaps(model: PoseModel, dataset: CocoDataset, images: Path) -> dict[str, NDArray[np.generic]]:
    width, height = size = model.info.input_size
    maps, points, labelled = [], [], []
    for image in dataset.images:
        rows = [int(r) for r in dataset.rows_by_image.get(image.id, ()) if dataset.with_keypoints()[r]]
        if not rows:
            continue
        pixels = read_image(images / image.file_name).pixels
        affines = [crop_affine(fit_box(dataset.boxes_xyxy[r], width / height, model.info.box_padding), size)
                   for r in rows]
        maps.append(model(np.stack([affine.warp(pixels, size) for affine in affines])).astype(np.float16))
        points += [affine.points(dataset.keypoints[r, :, :2]) for affine, r in zip(affines, rows, strict=True)]
        labelled += [dataset.keypoints[r, :, 2] > 0 for r in rows]
    return {"maps": np.concatenate(maps), "points": np.stack(points), "labelled": np.stack(labelled)}


def learn(stage: LateStage, batches: Iterator[Batch]) -> None:
    """One pass over the batches with a rate that rises and falls."""
    optimizer = torch.optim.AdamW(stage.parameters(), lr=RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=SAMPLES // BATCH)
    stage.train()
    for maps, wanted in batches:
        optimizer.zero_grad()
        kl_loss(stage(maps), wanted).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def work(told: Namespace) -> None:
    model = PoseModel("pose-small", threads=told.threads)
    val = read_dataset(told.val)
    photos = Photos(model, read_dataset(told.train), told.train.parent / "images", told.work / "heatmaps.npz")
    labels = Labels(model, told.labels)
    width, height = photos.codec.heatmap_size

    def judge(stage: LateStage, file: Path) -> None:
        predictor = Predictor(model.info, Corrected(model, stage))
        results = predict_dataset(predictor, val, told.val.parent / "images", boxes="ground-truth")
        write_json(file, results)
        log.info("%s: AP %.4f", file.stem, evaluate_keypoints(val, results).ap)

    lessons: dict[str, list[Callable[[np.random.Generator], Iterator[Batch]]]] = {
        "as it ships": [], "photos": [photos.batches], "labels": [labels.batches],
        "labels, then photos": [labels.batches, photos.batches]}
    for seed in told.seeds:
        for arm, sources in lessons.items():
            file = told.work / f"val-{seed}-{arm}.json"
            if file.is_file():
                continue
            torch.manual_seed(seed)
            stage = LateStage(len(COCO_17), height, width)
            for source in sources:
                learn(stage, source(np.random.default_rng(seed)))
            judge(stage, file)


def report(told: Namespace) -> None:
    val = read_dataset(told.val)
    judged = {arm: Judged(val, [told.work / f"val-{seed}-{arm}.json" for seed in told.seeds]) for arm in ARMS}
    stage = LateStage(len(COCO_17), 64, 48)
    kinds = ", ".join(f"{share:.0%} {kind}" for kind, share in KINDS.items())
    design = DESIGN.format(parameters=sum(p.numel() for p in stage.parameters()) / 1e6, samples=SAMPLES, kinds=kinds,
                           people=len(np.load(told.work / "heatmaps.npz")["labelled"]),
                           poses=int(((np.load(told.labels)["visibility"] > 0).sum(1) >= 6).sum()))
    base = judged["as it ships"]
    lines = [*heading("A late stage that sees no picture", "refiner.py", told), design, "",
             *table(("arm", "", "AP", "against as it ships", "mean OKS", "against as it ships"),
                    [[arm, meaning, spread(judged[arm].aps()), *_change(difference, base, judged[arm]),
                      spread(judged[arm].oks().mean(1).tolist()), *_change(oks_difference, base, judged[arm])]
                     for arm, meaning in ARMS.items()])]
    lines += ["", f"Mean of {len(told.seeds)} seeds (lowest to highest); differences with the 95 % interval of a "
              "paired bootstrap over pictures.", ""]
    write_report(Path(__file__).with_name("refiner.md"), lines)


def _change(measured: Callable[[Judged, Judged], str], base: Judged, these: Judged) -> list[str]:
    return [""] if these is base else [measured(base, these)]


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--labels", type=Path, required=True, help="poses of COCO train2017 without pictures, .npz")


if __name__ == "__main__":
    told = arguments(__doc__, SEEDS, options)
    (report if told.report else work)(told)
