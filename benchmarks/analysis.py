"""Why the pose model that ships is not better: ``python benchmarks/analysis.py VAL.json`` -> analysis.md.

The error taxonomy with ground-truth boxes and flip test, joints by kind for hidden and visible ones and for groups of
people, and what options at test time change, told from chance. The section by hand at the end of the file is kept.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from report import by_hand, commit, table
from tyro.conf import Positional

from stagepose.coco import CocoDataset, images_folder, read_dataset
from stagepose.errors import StagePoseError
from stagepose.evaluation import compare, judge_keypoints, predict_dataset
from stagepose.evaluation.analysis import MEANING, Analysis, analyze
from stagepose.evaluation.breakdown import overlaps
from stagepose.evaluation.keypoints import LABELS, Judgement
from stagepose.evaluation.taxonomy import KINDS, Taxonomy, classify
from stagepose.files import write_text
from stagepose.predictor import DEFAULT_POSE, load

ROOT = Path(__file__).resolve().parents[1]
BY_HAND = "## What should be done next"
SETTINGS: dict[str, dict[str, Any]] = {
    "flip (the one taken apart above)": {"flip": True},
    "no flip": {},
    "flip, crops of 0.9": {"flip": True, "scales": (0.9,)},
    "flip, crops of 1.1": {"flip": True, "scales": (1.1,)},
    "flip, crops of 0.9, 1 and 1.1": {"flip": True, "scales": (0.9, 1.0, 1.1)},
    "flip, rescoring mean-all": {"flip": True, "rescoring": "mean-all"},
    "flip, rescoring megvii": {"flip": True, "rescoring": "megvii"},
    "flip, soft-NMS": {"flip": True, "soft_nms": True},
}


@dataclass(frozen=True, eq=False)
class Joints:
    """One row a labelled joint of a person who was found."""

    kind: NDArray[np.int64]
    hidden: NDArray[np.bool_]
    person: NDArray[np.int64]

    @classmethod
    def of(cls, judged: Judgement, errors: Taxonomy) -> Joints:
        result, k = np.nonzero(errors.kinds >= 0)
        person = errors.person_of[result]
        return cls(errors.kinds[result, k].astype(np.int64), judged.truth.keypoints[person, k, 2] == 1, person)

    def shares(self, chosen: NDArray[np.bool_]) -> list[str]:
        counts = np.bincount(self.kind[chosen], minlength=len(KINDS))
        return [f"{counts.sum():,}", *(f"{count / max(counts.sum(), 1):.1%}" for count in counts)]


def main(
    file: Positional[Annotated[Path, tyro.conf.arg(metavar="VAL.json")]],
    *,
    images: Path | None = None,
    pose: str = DEFAULT_POSE,
    threads: int = 2,
    out: Path = ROOT / "benchmarks/analysis.md",
) -> None:
    """Take a pose model's results apart, and write down what is found.

    Args:
        file: COCO keypoint file to judge by.
        images: Folder of its pictures; by default images/ beside it.
        pose: A shipped name or an .onnx file.
        threads: CPU threads.
        out: The Markdown file to write.
    """
    dataset, folder = read_dataset(file), images_folder(file, images)
    found = {}
    for name, settings in SETTINGS.items():
        sys.stderr.write(name + "\n")
        found[name] = predict_dataset(load(pose, None, threads=threads, **settings), dataset, folder)
    first = next(iter(found.values()))
    analysis, judged = analyze(dataset, first), judge_keypoints(dataset, first)
    lines = [
        "# Where the pose model fails, and why", "", *heading(file, dataset, pose), "",
        "## Errors", "", *errors_of(analysis), "",
        "## Mended", "", *mended(analysis), "",
        "## Keypoint by keypoint", "", *keypoints(analysis), "",
        "## Which joints, which people", "", *groups(analysis, judged), "",
        "## Options at test time", "", *options(dataset, found), "",
        *by_hand(out, BY_HAND),
    ]  # fmt: skip
    write_text(out, "\n".join(lines))


def heading(file: Path, dataset: CocoDataset, pose: str) -> list[str]:
    name = "/".join(file.parts[-2:])
    people = int(dataset.with_keypoints().sum())
    return [f"`python benchmarks/analysis.py {name}`, commit {commit()}, {date.today()}: {pose} with ground-truth "
            f"boxes and flip test on {len(dataset.images)} pictures with {people} people (the public validation "
            "subset). `stagepose analyze` shows the same with pictures; the words are defined in "
            "[docs/judge.md](../docs/judge.md)."]  # fmt: skip


def errors_of(analysis: Analysis) -> list[str]:
    numbers = zip(LABELS, analysis.metrics.numbers(), analysis.intervals, strict=True)
    joints = sum(analysis.errors[kind] for kind in KINDS)
    return [
        ", ".join(f"{label} {value:.3f} ({within})" for label, value, within in numbers) + ": in brackets the 95 % "
        "bootstrap intervals over pictures.", "",
        *table(("joints of people who were found", "count", "share"),
               ([kind, f"{analysis.errors[kind]:,}", f"{analysis.errors[kind] / joints:.1%}"] for kind in KINDS)), "",
        *table(("results and people", "count"), ([name, f"{analysis.errors[name]}"] for name in
                                                 ("missed", "background", "second", "misranked"))),
    ]  # fmt: skip


def mended(analysis: Analysis) -> list[str]:
    return [*table(("error", "what it is", "AP gained alone", "AP gained in this order"),
                   ([gain.name, MEANING[gain.name], f"{gain.alone:+.3f}", f"{gain.after:+.3f}"]
                    for gain in analysis.gains)),
            "", f"All mended: AP {analysis.all_mended:.3f}."]  # fmt: skip


def keypoints(analysis: Analysis) -> list[str]:
    rows = []
    for name, part, counts, gain in zip(analysis.keypoints, analysis.parts["keypoint"], analysis.errors_by_keypoint,
                                        analysis.gains_by_keypoint, strict=True):
        total = max(sum(counts.values()), 1)
        rows.append([name, f"{part.people}", f"{part.ap:.3f}", *(f"{counts[kind] / total:.0%}" for kind in KINDS),
                     f"{gain:+.3f}"])
    return table(("keypoint", "labelled", "AP", *KINDS, "AP gained if mended"), rows)


def groups(analysis: Analysis, judged: Judgement) -> list[str]:
    joints = Joints.of(judged, classify(judged))
    labelled = (judged.truth.keypoints[..., 2] > 0).sum(axis=1)[joints.person]
    overlap, size = overlaps(judged.truth)[joints.person], np.sqrt(judged.truth.areas)[joints.person]
    chosen = {
        "visible joints": ~joints.hidden, "hidden joints (v = 1)": joints.hidden,
        "people of 1 to 5 labelled joints": labelled <= 5, "of 6 to 10": (labelled > 5) & (labelled <= 10),
        "of 11 to 15": (labelled > 10) & (labelled <= 15), "of 16 and 17": labelled > 15,
        "people below 64 px": size < 64, "of 64 to 96 px": (size >= 64) & (size < 96),
        "of 96 to 192 px": (size >= 96) & (size < 192), "from 192 px": size >= 192,
        "people whose box overlaps no other's by .1": overlap < 0.1, "by .1 to .3": (overlap >= 0.1) & (overlap < 0.3),
        "by .3 and more": overlap >= 0.3,
    }  # fmt: skip
    parts = [[what, part.name, f"{part.people}", f"{part.ap:.3f}", f"{part.ar:.3f}"]
             for what in ("size", "overlap", "labelled") for part in analysis.parts[what] if part.people]
    return [*table(("joints", "count", *KINDS), ([name, *joints.shares(mine)] for name, mine in chosen.items())), "",
            *table(("by", "part", "people", "AP", "AR"), parts)]


def options(dataset: CocoDataset, found: dict[str, list[dict[str, Any]]]) -> list[str]:
    judged = {name: judge_keypoints(dataset, results) for name, results in found.items()}
    base, *others = judged
    rows = [[base, f"{judged[base].ap():.3f}", "", ""]]
    for name in others:
        against = compare(judged[base], judged[name])
        within = against.intervals[0]
        rows.append([name, f"{against.b[0]:.3f}", f"{against.b[0] - against.a[0]:+.3f}",
                     f"{within.low:+.3f} to {within.high:+.3f}" if within else ""])
    return [*table(("setting", "AP", "difference", "95 % interval"), rows), "",
            "Differences to the first, by a paired bootstrap: where the interval holds 0, the difference may be luck."]


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except StagePoseError as error:
        raise SystemExit(f"error: {error}") from None
