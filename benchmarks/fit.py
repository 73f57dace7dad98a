"""How well the shipped pose models fit the people they have learnt from, beside people they have not -> fit.md.

``python benchmarks/fit.py TRAIN.json VAL.json``: AP at annotated boxes with flip test, on every 16th training picture
and on the validation file. A wide gap asks for more people or harder views of them, a narrow one for a larger network
or a longer training.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import date
from pathlib import Path

from report import commit, table

from stagepose.coco import images_folder, read_dataset
from stagepose.evaluation import judge_keypoints, predict_dataset
from stagepose.evaluation.bootstrap import intervals
from stagepose.files import write_text
from stagepose.predictor import load
from stagepose.runtime import read_info, shipped

ROOT = Path(__file__).resolve().parents[1]
EVERY = 16
LEARNT, NEW = "people it has learnt from", "new people"


def main(train: Path, val: Path) -> None:
    models = [name for name in shipped() if read_info(name).kind == "pose"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        some = Path(folder) / "some.json"
        some.write_text(json.dumps(thinned(json.loads(train.read_text(encoding="utf-8")))), encoding="utf-8")
        for name in models:
            learnt, new = (judged(name, file, images) for file, images in (
                (some, images_folder(train, None)), (val, images_folder(val, None))))
            rows.append([name, *learnt, *new, f"{float(learnt[0]) - float(new[0]):.3f}"])
    write_text(ROOT / "benchmarks/fit.md", "\n".join([
        "# How well the models fit", "",
        f"`python benchmarks/fit.py {'/'.join(train.parts[-2:])} {'/'.join(val.parts[-2:])}`, commit {commit()}, "
        f"{date.today()}: AP at annotated boxes with flip test, on every {EVERY}th training picture and on the public "
        "validation subset, with 95 % intervals.", "",
        *table(("model", LEARNT, "95 % interval", NEW, "95 % interval", "gap"), rows), "",
        "Where the gap is narrow beside what is missing to 1, a network underfits: it, or its training, is too short, "
        "and views that are changed less may teach it more.", "",
    ]))  # fmt: skip


def thinned(file: dict[str, list[dict[str, int]]]) -> dict[str, list[dict[str, int]]]:
    """Every 16th picture with its annotations."""
    images = file["images"][::EVERY]
    ids = {image["id"] for image in images}
    return {**file, "images": images, "annotations": [a for a in file["annotations"] if a["image_id"] in ids]}


def judged(name: str, file: Path, images: Path) -> list[str]:
    """(AP, its interval)."""
    sys.stderr.write(f"{name}, {file.name}\n")
    dataset = read_dataset(file)
    found = judge_keypoints(dataset, predict_dataset(load(name, None, flip=True), dataset, images))
    return [f"{found.ap():.3f}", str(intervals(found)[0])]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
