"""The models that ship: what they reach, what they cost, and what each lever is worth -> default_models.md.

``python benchmarks/default_models.py VAL.json --train TRAIN.json`` judges at ground-truth boxes and end to end, with
bootstrap intervals, and changes one thing at a time. ``--before OLD.onnx`` compares with the pose model that shipped
before under the same name. Speed beside published networks is in accuracy.md. The section by hand at the end of the
file is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
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
from stagepose.evaluation.bootstrap import intervals
from stagepose.files import write_text
from stagepose.heatmaps import UdpDark, UdpOks
from stagepose.images import read_image
from stagepose.oks import COCO_MAX_PEOPLE, oks_of_person
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, Predictor, load
from stagepose.runtime import read_info, resolve, shipped

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = "as it ships"
FLIPPED, UNFLIPPED = "annotated boxes, flip test", "annotated boxes, no flip test"
END_TO_END = "end to end, no flip test"
TEST_TIME, BY_HAND = "## Levers at test time", "## Levers in training"
FLOOR = 0.05  # of a box's score, end to end: as in accuracy.py
LIGHT = 10.0  # ridge of the learnt quality, in people
Results = list[dict[str, Any]]


def main(
    file: Positional[Annotated[Path, tyro.conf.arg(metavar="VAL.json")]],
    *,
    train: Path | None = None,
    people: int = 1_500,
    before: Path | None = None,
    before_boxes: Path | None = None,
    pose: str = DEFAULT_POSE,
    detector: str = DEFAULT_DETECTOR,
    threads: int = 2,
    test_time: bool = True,
    out: Path = ROOT / "benchmarks/default_models.md",
) -> None:
    """Judge the models that ship, lever by lever.

    Args:
        file: COCO keypoint file to judge by, pictures in images/ beside it.
        train: COCO keypoint file that the pose model has learnt from, to learn the quality of its finds on.
        people: So many of its people.
        before: The file of one of the pose models that shipped before.
        before_boxes: The same of the detector, end to end.
        pose: A shipped name or an .onnx file.
        detector: The same.
        threads: CPU threads.
        test_time: Try levers at test time anew; without, that section stays as it is.
        out: The Markdown file to write.
    """
    dataset, folder = read_dataset(file), images_folder(file, None)
    models = {name: seen(load(name, detector, threads=threads), dataset, folder) for name in (pose, *larger(pose))}
    first, former = models[pose], {}
    if before is not None:
        name = read_info(before).name
        former = {f"{name} against the one before": (seen(load(before, detector, threads=threads), dataset, folder),
                                                     models[name])}
    against_another = {f"{name} against {pose}": (first, ways) for name, ways in models.items() if name != pose}
    lines = [
        "# The models that ship", "", *heading(file, dataset), "", *sizes(*models, detector), "",
        "## What they reach", "",
        *table(("", "AP", "95 % interval", "AP50", "AP75", "AP M", "AP L", "AR"),
               [reached(f"{name}, {way}", dataset, results)
                for name, ways in models.items() for way, results in ways.items()]), "",
        *(line for title, (base, ways) in (against_another | former).items() for line in (
            *table((title, "AP", "difference", "95 % interval"),
                   [[way, *versus(dataset, base[way], results)] for way, results in ways.items()]), "")),
    ]  # fmt: skip
    if test_time:
        ours = load(pose, detector, threads=threads, flip=True)
        lines += tried(ours, first, dataset, folder, train, people, before_boxes, threads)
        lines += by_hand(out, BY_HAND)
    else:
        lines += by_hand(out, TEST_TIME)
    write_text(out, "\n".join(lines).rstrip() + "\n")


def tried(ours: Predictor, first: dict[str, Results], dataset: CocoDataset, folder: Path, train: Path | None,
          people: int, before_boxes: Path | None, threads: int) -> list[str]:
    """The section on levers at test time."""
    judged = {SHIPPED: first[FLIPPED], "no flip test": first[UNFLIPPED]}
    behind = {SHIPPED: found("end to end", ours, dataset, folder, boxes="detector", threshold=FLOOR),
              "no flip test": first[END_TO_END]}
    judged |= {name: found(name, predictor, dataset, folder) for name, predictor in levers(ours).items()}
    if train is not None:
        judged["ranked by a quality that was learnt"] = with_quality(judged[SHIPPED], learnt(ours, train, people))
    behind |= {name: found(name, predictor, dataset, folder, boxes="detector", threshold=FLOOR)
               for name, predictor in levers_behind(ours, before_boxes, threads).items()}
    return [
        TEST_TIME, "", f"Of {ours.info.name}, commit {commit()}, {date.today()}.", "",
        *table(("at annotated boxes, flip test", "AP", "difference", "95 % interval"),
               against(dataset, judged[SHIPPED], judged)), "",
        *table(("end to end, flip test", "AP", "difference", "95 % interval"),
               against(dataset, behind[SHIPPED], behind)), "",
        "One thing changed at a time; differences by a paired bootstrap over pictures: where the interval holds 0, the "
        "difference may be luck.", "",
    ]  # fmt: skip


def levers(ours: Predictor) -> dict[str, Predictor]:
    """The pose model with one thing changed."""
    size = ours.info.input_size

    def decoded(codec: UdpDark) -> Predictor:
        return Predictor(replace(ours.info, codec=codec), ours.network, ours.detector, ours.config)

    return {
        "decoded as DARK does": decoded(UdpDark(input_size=size)),
        "decoded where the expected OKS is largest": decoded(UdpOks(input_size=size)),
        "crops of 0.9, 1 and 1.1": ours.with_config(scales=(0.9, 1.0, 1.1)),
        **padded(ours, 1.0, 1.05, 1.15, 1.25, 1.35),
        "ranked and thinned as HRNet does": ours.with_config(rescoring="mean-above"),
        "as MSPN does": ours.with_config(rescoring="megvii"),
    }


def levers_behind(ours: Predictor, before_boxes: Path | None, threads: int) -> dict[str, Predictor]:
    """Both models with one thing changed."""
    made = {f"of the {COCO_MAX_PEOPLE} best boxes alone": ours.with_config(max_people=COCO_MAX_PEOPLE),
            "ranked and thinned as HRNet does": ours.with_config(rescoring="mean-above")}
    if before_boxes is not None:
        made["the detector before"] = load(DEFAULT_POSE, before_boxes, threads=threads, flip=True)
    return made


def larger(pose: str) -> list[str]:
    """The other pose models that ship."""
    return [name for name in shipped() if name != pose and read_info(name).kind == "pose"]


def seen(predictor: Predictor, dataset: CocoDataset, folder: Path) -> dict[str, Results]:
    """What a model finds in annotated boxes, and end to end as ``predict`` does it."""
    name, plain = predictor.info.name, predictor.with_config(flip=False)
    return {FLIPPED: found(f"{name}, {FLIPPED}", predictor.with_config(flip=True), dataset, folder),
            UNFLIPPED: found(f"{name}, {UNFLIPPED}", plain, dataset, folder),
            END_TO_END: found(f"{name}, {END_TO_END}", plain, dataset, folder, boxes="detector", threshold=FLOOR)}


def padded(ours: Predictor, *paddings: float) -> dict[str, Predictor]:
    """With other paddings than the model's own."""
    return {f"boxes padded by {padding:g}": ours.with_config(box_padding=padding) for padding in paddings
            if padding != ours.info.box_padding}


def found(name: str, predictor: Predictor, dataset: CocoDataset, folder: Path, **how: Any) -> Results:
    sys.stderr.write(f"{name}\n")
    return predict_dataset(predictor, dataset, folder, **how)


# --- a quality that is learnt: the OKS of a find, from its joints' scores


def learnt(ours: Predictor, train: Path, people: int) -> NDArray[np.float64]:
    """(K + 1,) weights of the joints' scores and a constant: ridge regression of the OKS of training people.

    The network has seen them, so their OKS are flattered; which joints' scores tell it is what is learnt.
    """
    dataset, folder = read_dataset(train), images_folder(train, None)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(dataset.with_keypoints()))[:people]
    scores, oks = [], []
    for row in rows:
        pixels = read_image(folder / dataset.image_by_id[int(dataset.image_ids[row])].file_name).pixels
        points, heights = ours.keypoints(pixels, dataset.boxes_xyxy[[row]])
        scores.append(np.append(heights[0], 1.0))
        oks += oks_of_person(dataset.keypoints[[row]], dataset.areas[[row]], dataset.boxes_xyxy[[row]], points,
                             np.array(dataset.skeleton.sigmas)).tolist()
    told = np.array(scores)
    light = np.diag([LIGHT] * (told.shape[1] - 1) + [0.0])
    return np.asarray(np.linalg.solve(told.T @ told + light, told.T @ np.array(oks)))


def with_quality(results: Results, weights: NDArray[np.float64]) -> Results:
    joints = np.array([row["keypoints"] for row in results]).reshape(len(results), -1, 3)[..., 2]
    quality = joints @ weights[:-1] + weights[-1]
    return [{**row, "score": float(score)} for row, score in zip(results, quality, strict=True)]


# --- the report


def heading(file: Path, dataset: CocoDataset) -> list[str]:
    people = int(dataset.with_keypoints().sum())
    return [f"`python benchmarks/default_models.py {'/'.join(file.parts[-2:])} --train TRAIN.json`, commit {commit()}, "
            f"{date.today()}: the public validation subset, {len(dataset.images)} pictures with {people} people with "
            "keypoints. It is part of COCO *val2017*, and so are many pictures that the models have learnt from: no "
            "*val2017* AP may be claimed."]


def sizes(*names: str) -> list[str]:
    return table(("model", "file", "sha256 of the weights"), (
        [name, f"{resolve(name).stat().st_size / 1e6:.1f} MB", read_info(name).sha256[:12]] for name in names))


def reached(name: str, dataset: CocoDataset, results: Results) -> list[str]:
    judged = judge_keypoints(dataset, results)
    ap, ap50, ap75, medium, large, ar, *_ = judged.numbers().tolist()
    return [name, f"{ap:.3f}", str(intervals(judged)[0]), *(f"{n:.3f}" for n in (ap50, ap75, medium, large, ar))]


def against(dataset: CocoDataset, base: Results, judged: dict[str, Results]) -> Iterable[list[str]]:
    for name, results in judged.items():
        if results is base:
            yield [name, f"{judge_keypoints(dataset, base).ap():.4f}", "", ""]
        else:
            yield [name, *versus(dataset, base, results)]


def versus(dataset: CocoDataset, base: Results, results: Results) -> list[str]:
    told = compare(judge_keypoints(dataset, base), judge_keypoints(dataset, results))
    return [f"{told.b[0]:.4f}", f"{told.b[0] - told.a[0]:+.4f}", str(told.intervals[0])]


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except StagePoseError as error:
        raise SystemExit(f"error: {error}") from None
