"""Who ranks first, and who is somebody else's twin: ``python benchmarks/ranking.py VAL.json --labels LABELS.npz``.

Writes ranking.md: for every rule of a person's score and every OKS from which two finds are one person, the AP end to
end and the best F1 of what ``predict`` shows; and how often two labelled people are as alike as that, which is what
such a threshold costs. Every box is looked at once; rules and thresholds are then tried on the same finds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import commit, table
from threshold import judged as right_or_wrong

from stagepose.coco import CocoDataset, read_dataset
from stagepose.coco.results import keypoint_result
from stagepose.evaluation import Judgement, compare, judge_keypoints
from stagepose.files import write_text
from stagepose.images import read_image
from stagepose.oks import COCO_MAX_PEOPLE, RESCORE_RULES, keypoint_similarity, oks_nms
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, load
from stagepose.skeleton import COCO_17
from stagepose.structures import Person

FLOOR = 0.02  # of the boxes that are looked at
NMS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.9)
STEPS = np.arange(0.1, 0.9, 0.01)  # least scores that are tried
SHOWN_FROM = 0.3  # of the boxes that F1 is about; predict looks at none below its threshold
LABELS_SIZE = np.array([640, 480])
ALIKE_JOINTS = 5  # that two labelled people must share before they are compared
Float = NDArray[np.float64]
Score = Callable[[Float, Float], Float]


def power(share: float) -> Score:
    """Geometric means of the box's score, ``share`` of the exponent, and the mean of the joints'."""
    return lambda boxes_N, joints_NK: boxes_N**share * joints_NK.mean(1) ** (1 - share)


@dataclass(frozen=True, eq=False)
class Looks:
    """All finds of one picture: boxes (N, 4), points (N, K, 2), joint scores (N, K), box scores (N,)."""

    image_id: int
    boxes: Float
    points: Float
    joints: Float
    box_scores: Float

    def people(self, score: Score, nms: float, dataset: CocoDataset, padding: float) -> list[Person]:
        """Ranked by ``score``, nobody twice."""
        scores = score(self.box_scores, self.joints)
        areas = np.maximum((self.boxes[:, 2:] - self.boxes[:, :2]).prod(1), 1.0) * padding**2
        kept = oks_nms(self.points, scores, areas, np.array(dataset.skeleton.sigmas), nms)
        return [Person(box=self.boxes[n], keypoints=self.points[n], scores=self.joints[n], score=float(scores[n]),
                       skeleton=dataset.skeleton, box_score=float(self.box_scores[n])) for n in kept]


def look(dataset: CocoDataset, folder: Path, flip: bool, models: dict[str, Any]) -> tuple[list[Looks], float]:
    """Every box from FLOOR on of every picture, nobody dropped -> (looks, the pose model's box padding)."""
    predictor = load(**models, threshold=0.0, box_threshold=FLOOR, flip=flip, oks_nms=None)
    looks = []
    for image in dataset.images:
        people = predictor.people(read_image(folder / image.file_name))
        if people:
            looks.append(Looks(image.id, *(np.array([getattr(p, name) for p in people]) for name in
                                           ("box", "keypoints", "scores", "box_score"))))
    return looks, predictor.info.box_padding


def judge(dataset: CocoDataset, looks: Sequence[Looks], score: Score, nms: float, padding: float) -> Judgement:
    results = [keypoint_result(one.image_id, person) for one in looks
               for person in one.people(score, nms, dataset, padding)[:COCO_MAX_PEOPLE]]
    return judge_keypoints(dataset, results)


def best_f1(dataset: CocoDataset, looks: Sequence[Looks], score: Score, nms: float, padding: float) -> list[str]:
    """F1, and the least score, precision and recall where it is best."""
    finds = [find for one in looks for find in right_or_wrong(
        [p for p in one.people(score, nms, dataset, padding) if p.box_score >= SHOWN_FROM], dataset,
        np.flatnonzero(dataset.image_ids == one.image_id))]
    scores, _, right = (np.array(column) for column in zip(*finds, strict=True))
    people = int(dataset.with_keypoints().sum())
    best = max((2 * right[kept].sum() / (kept.sum() + people), least, right[kept].mean(), right[kept].sum() / people)
               for least in STEPS if (kept := scores >= least).any())
    return [f"{best[0]:.3f}", f"{best[1]:.2f}", f"{best[2]:.3f}", f"{best[3]:.3f}"]


def difference(a: Judgement, b: Judgement) -> str:
    """AP of b - a with its 95 % interval."""
    told = compare(a, b)
    within = told.intervals[0]
    return f"{told.b[0] - told.a[0]:+.4f} ({within.low:+.4f} to {within.high:+.4f})"


def twins(labels: Path) -> list[list[str]]:
    """Of COCO's labelled people, the share that has somebody as alike in its picture, by OKS."""
    with np.load(labels) as file:
        points = file["keypoints_xy"].reshape(-1, 17, 2) / 65535 * LABELS_SIZE
        seen, images = file["visibility"].reshape(-1, 17) > 0, file["image_id"]
        areas = (file["box_cxcywh"][:, 2:] / 65535.0 * LABELS_SIZE).prod(1) * 1.15**2
    sigmas, most = np.array(COCO_17.sigmas), np.zeros(len(images))
    order = np.argsort(images, kind="stable")
    for rows in np.split(order, np.unique(images[order], return_index=True)[1][1:]):
        both = seen[rows][:, None] & seen[rows][None]
        enough = (both.sum(2) >= ALIKE_JOINTS) & ~np.eye(len(rows), dtype=bool)
        squared = ((points[rows][:, None] - points[rows][None]) ** 2).sum(-1)
        similar = keypoint_similarity(squared, (areas[rows][:, None] + areas[rows][None]) / 2, sigmas)
        oks = np.where(enough, (similar * both).sum(2) / np.maximum(both.sum(2), 1), 0)
        most[rows] = oks.max(1)
    return [[f"{threshold:g}", f"{(most > threshold).mean():.2%}"] for threshold in NMS]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("val", type=Path)
    parser.add_argument("--labels", type=Path, required=True, help="npz of all labels of COCO train2017")
    parser.add_argument("--detector", default=DEFAULT_DETECTOR)
    parser.add_argument("--pose", default=DEFAULT_POSE)
    told = parser.parse_args()
    dataset, folder = read_dataset(told.val), told.val.parent / "images"
    models = {"pose": told.pose, "detector": told.detector, "threads": 1}
    rules: dict[str, Score] = {name: rule.score for name, rule in RESCORE_RULES.items()}
    more = {f"box^{share:g} x joints^{1 - share:g}": power(share) for share in (0.2, 0.25, 0.5)}
    lines = ["# Who ranks first, and who is found twice", "",
             f"`python benchmarks/ranking.py {told.val.parent.name}/{told.val.name} --labels {told.labels.name}`, "
             f"commit {commit()}, {date.today()}: {told.pose} in the boxes of {told.detector}, {len(dataset.images)} "
             f"pictures with {int(dataset.with_keypoints().sum())} labelled people (the public validation subset, on "
             "which this was chosen: slightly kind).", ""]
    for flip in (True, False):
        looks, padding = look(dataset, folder, flip, models)
        lines += [f"## AP end to end, {'' if flip else 'no '}flip test", "",
                  *table(("score", *(f"one from OKS {nms:g} on" for nms in NMS)),
                         [[name, *(f"{judge(dataset, looks, score, nms, padding).ap():.4f}" for nms in NMS)]
                          for name, score in (rules | more).items()]), ""]
        before, after = (judge(dataset, looks, rules[name], RESCORE_RULES[name].nms or 1.0, padding)
                         for name in ("mean-above", "geometric"))
        lines += [f"`geometric` at {RESCORE_RULES['geometric'].nms:g} against `mean-above` at "
                  f"{RESCORE_RULES['mean-above'].nms:g}: {difference(before, after)}.", ""]
    lines += ["## What is shown", "",
              f"The best F1, no flip test, of finds in boxes from {SHOWN_FROM:g} on; right from an OKS of .5 on.", "",
              *table(("score", "one from OKS on", "F1", "least score", "precision", "recall"),
                     [[name, f"{nms:g}", *best_f1(dataset, looks, rules[name], nms, padding)]
                      for name in ("mean-above", "geometric") for nms in (0.4, 0.5, 0.7, 0.9)]), "",
              "## What it costs", "",
              "Of COCO train2017's 149,813 labelled people, those with somebody in their picture who is more alike "
              f"than this, by OKS over the joints that both have labelled ({ALIKE_JOINTS} or more) and the mean of "
              "their boxes' areas, as people found are compared. From .9 on it is mostly somebody labelled twice.", "",
              *table(("OKS above", "share of the people"), twins(told.labels)), ""]
    write_text(Path(__file__).with_name("ranking.md"), "\n".join(lines))


if __name__ == "__main__":
    main()
