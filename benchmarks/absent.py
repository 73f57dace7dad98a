"""Whether a joint's score says that the joint is there: ``python benchmarks/absent.py VAL.json --pose A.onnx B.onnx``.

Writes absent.md: of every model, in annotated boxes and without flip test, how well scores part the joints that the
annotators placed from those that they could not (out of the picture, hidden beyond guessing), how many of either a
drawing shows, and the AP beside the first model's.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ranking import difference
from report import by_hand, commit, models_asked, set_name, table

from stagepose.coco import CocoDataset, read_dataset
from stagepose.evaluation import judge_keypoints, predict_dataset
from stagepose.files import write_text
from stagepose.images import read_image
from stagepose.predictor import DEFAULT_POSE, Predictor, load

SHOWN = 0.3  # the score from which a joint is drawn
TITLE = "# What a joint's score says"


def scores(predictor: Predictor, dataset: CocoDataset, folder: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N, K) of every labelled person's joints, and which of them are labelled."""
    counted, found, labelled = dataset.with_keypoints(), [], []
    for image in dataset.images:
        rows = [row for row in dataset.rows_by_image.get(image.id, ()) if counted[row]]
        if rows:
            found.append(predictor.keypoints(read_image(folder / image.file_name).pixels, dataset.boxes_xyxy[rows])[1])
            labelled.append(dataset.keypoints[rows, :, 2] > 0)
    return np.concatenate(found), np.concatenate(labelled)


def parted(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    """The chance that one of ``higher`` exceeds one of ``lower`` (the area under the ROC curve)."""
    order = np.sort(lower)
    below, upto = np.searchsorted(order, higher, "left"), np.searchsorted(order, higher, "right")
    return float((below + upto).mean() / 2 / len(lower))


def main() -> None:
    told = models_asked(__doc__, DEFAULT_POSE)
    dataset, folder = read_dataset(told.val), told.val.parent / "images"
    rows, first = [], None
    for name in told.pose:
        predictor = load(name, None, threads=told.threads)
        found, labelled = scores(predictor, dataset, folder)
        judged = judge_keypoints(dataset, predict_dataset(predictor, dataset, folder))
        change = "" if first is None else difference(first, judged)
        first = first or judged
        rows.append([Path(name).stem, f"{parted(found[labelled], found[~labelled]):.3f}",
                     f"{(found[labelled] >= SHOWN).mean():.1%}", f"{(found[~labelled] >= SHOWN).mean():.1%}",
                     f"{judged.ap():.4f}", change])
    out = Path(__file__).with_name("absent.md")
    lines = [TITLE, "", f"`python benchmarks/absent.py {set_name(told.val)} --pose ...`, commit {commit()}, "
             f"{date.today()}: {int(dataset.with_keypoints().sum())} people of the public validation subset, annotated "
             "boxes, no flip test.", "",
             *table(("model", "labelled above unlabelled", f"labelled joints from {SHOWN:g} on", "unlabelled ones",
                     "AP", "against the first"), rows), "", *by_hand(out, "## What it says")]
    write_text(out, "\n".join(lines))


if __name__ == "__main__":
    main()
