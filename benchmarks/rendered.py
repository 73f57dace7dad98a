"""Rendered people: what they cost, and what they are worth. Writes rendered.md, of whose parts each run renews its own.

    python benchmarks/rendered.py speed
    python benchmarks/rendered.py agreement
    python benchmarks/rendered.py photographs coco_val/person_keypoints.json
    python benchmarks/rendered.py proportions coco2017_train_labels.npz
    python benchmarks/rendered.py accuracy coco_train/person_keypoints.json coco_val/person_keypoints.json

``speed``: people a second and memory of one process on one core, by picture size, with random and with fitted poses.
``agreement``: what a network that has only seen photographs finds on rendered people, and, keypoint by keypoint, how
far from our labels and to which side: it knows where people place keypoints.
``photographs``: the same network against people's own labels, to tell its habits from our mapping's.
``proportions``: how far apart the keypoints of upright people are, as COCO's annotators and as we place them.
``accuracy``: one network, three ways to the same number of samples: real people only; rendered people, then real
(``train --init``); both mixed. By number of real people and by seed. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import commit

from stagepose.coco import CocoDataset, read_dataset, to_json, write_json_compact
from stagepose.evaluation import evaluate_keypoints
from stagepose.rendering.families import draw_stance
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
from stagepose.rendering.scene import draw_scene
from stagepose.rendering.settings import RenderConfig
from stagepose.skeleton import COCO_17

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "benchmarks/rendered.md"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
SIZES = (128, 256, 512)
PARTS = ["Speed and memory", "Agreement with photographs", "The same on photographs", "Proportions",
         "What they are worth"]  # fmt: skip
ROUNDS = 3
PICTURES = 48  # a measurement
UPRIGHT, FACING = 0.25, 0.12  # sideways of a step down; a shoulders' width of the height from eyes to ankles, at least

# Run in a process of its own: the CPU's seconds for PICTURES pictures after a warm-up, people, and peak memory
MEASURE = """
import json, resource, sys, tempfile, time
from pathlib import Path
import cv2
from stagepose.rendering.settings import RenderConfig
from stagepose.rendering.worker import Order, Workshop
size, count, poses = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3] else None
cv2.setNumThreads(1)
with tempfile.TemporaryDirectory() as folder:
    shop = Workshop(Order(Path(folder), RenderConfig(size=size, poses=poses), ()))
    shop.picture(10_000)
    cpu, wall = time.process_time(), time.perf_counter()
    people = sum(len(shop.picture(number)["people"]) for number in range(count))
    seconds = (time.process_time() - cpu, time.perf_counter() - wall)
print(json.dumps([people, *seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    speed_ = parts.add_parser("speed")
    speed_.add_argument("--poses", type=Path, help="COCO file whose people's poses are fitted, as one more row")
    agreement_ = parts.add_parser("agreement")
    agreement_.add_argument("--work", type=Path, default=ROOT / "runs/rendered")
    agreement_.add_argument("--pictures", type=int, default=300)
    agreement_.add_argument("--pose", default="pose-small")
    photographs_ = parts.add_parser("photographs")
    photographs_.add_argument("labels", type=Path, help="COCO file; images/ beside it")
    photographs_.add_argument("--work", type=Path, default=ROOT / "runs/rendered")
    photographs_.add_argument("--pose", default="pose-small")
    proportions_ = parts.add_parser("proportions")
    proportions_.add_argument("labels", type=Path, help="coco2017_train_labels.npz")
    proportions_.add_argument("--scenes", type=int, default=1500)
    accuracy_ = parts.add_parser("accuracy")
    accuracy_.add_argument("train", type=Path)
    accuracy_.add_argument("val", type=Path)
    accuracy_.add_argument("--work", type=Path, default=ROOT / "runs/rendered")
    accuracy_.add_argument("--pictures", type=int, default=20_000, help="rendered; about 1.9 people each")
    accuracy_.add_argument("--picture-size", type=int, default=256)
    accuracy_.add_argument("--people", type=int, nargs="+", default=[500, 2_000], help="real ones")
    accuracy_.add_argument("--seeds", type=int, default=3)
    accuracy_.add_argument("--samples", type=int, default=200_000, help="that each way may look at")
    accuracy_.add_argument("--network", default="pose-small")
    accuracy_.add_argument("--input-size", type=int, nargs=2, default=[64, 96])
    accuracy_.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    ways = {"speed": speed, "agreement": agreement, "photographs": photographs, "proportions": proportions,
            "accuracy": accuracy}
    lines = list(ways[chosen.part](chosen))
    renew(lines)
    sys.stdout.write("\n".join(lines) + "\n")


# --- speed


def speed(chosen: argparse.Namespace) -> Iterator[str]:
    poses: Path | None = chosen.poses
    yield from ("## Speed and memory", "", f"{heading()} One process, one thread, at most 4 people a picture, "
                f"{PICTURES} pictures after a warm-up, JPEG writing and labels included; median of {ROUNDS} "
                "interleaved rounds (least to most). The CPU's seconds count: other work went on beside it.", "",
                "| longer side | poses | people a second of CPU | people a second of the clock | peak memory |",
                "|---|---|---|---|---|")
    cases: list[tuple[int, Path | None]] = [(size, None) for size in SIZES] + ([(256, poses)] if poses else [])
    rounds = [[measured(size, file) for size, file in cases] for _ in range(ROUNDS)]
    for number, (size, file) in enumerate(cases):
        results = [row[number] for row in rounds]
        by_cpu = [people / cpu for people, cpu, _, _ in results]
        by_clock = [people / wall for people, _, wall, _ in results]
        kind, memory = "fitted to real people" if file else "random", max(row[3] for row in results)
        yield f"| {size} px | {kind} | {spread(by_cpu)} | {spread(by_clock)} | {memory:.0f} MB |"


def measured(size: int, poses: Path | None) -> tuple[int, float, float, float]:
    done = subprocess.run([sys.executable, "-c", MEASURE, str(size), str(PICTURES), str(poses or "")], check=True,
                          capture_output=True, text=True, env=os.environ | ONE_THREAD)
    people, cpu, wall, memory = json.loads(done.stdout)
    return people, cpu, wall, memory


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


# --- agreement


def agreement(chosen: argparse.Namespace) -> Iterator[str]:
    home = chosen.work / f"agreement-{chosen.pictures}"
    run("render", str(chosen.pictures), "--out", home)
    file, found = home / "person_keypoints.json", home / "results.json"
    run("eval", file, "--pose", chosen.pose, "--flip", "--out", found)
    dataset = read_dataset(file)
    metrics = evaluate_keypoints(dataset, json.loads(found.read_text()))
    yield from (
        "## Agreement with photographs", "",
        f"{heading()} {chosen.pose}, trained on photographs alone, on {chosen.pictures} rendered pictures "
        f"({int(dataset.with_keypoints().sum())} people) at their boxes, flip test: AP {metrics.ap:.3f}, "
        f"AP50 {metrics.ap50:.3f}.", "",
        "Where it puts visible keypoints of people at least 100 pixels high and seen from the front, against our "
        "labels, in percent of the box's height: the median distance, and the median to the person's left and "
        "downwards. A keypoint that our mapping puts elsewhere than people do stands out.", "",
    )  # fmt: skip
    yield from offset_lines(dataset, json.loads(found.read_text()))


def photographs(chosen: argparse.Namespace) -> Iterator[str]:
    chosen.work.mkdir(parents=True, exist_ok=True)
    found = chosen.work / "photographs.json"
    run("eval", chosen.labels, "--pose", chosen.pose, "--flip", "--out", found)
    yield from ("## The same on photographs", "",
                f"{heading()} What of these distances are the network's own: {chosen.pose} at the boxes of "
                f"{chosen.labels.parent.name}, against its people's labels, chosen and measured as above.", "")
    yield from offset_lines(read_dataset(chosen.labels), json.loads(found.read_text()))


def offset_lines(dataset: CocoDataset, results: list[dict[str, Any]]) -> Iterator[str]:
    yield from ("| keypoint | people | distance | to their left | downwards |", "|---|---|---|---|---|")
    for name, rows in offsets(dataset, results).items():
        far, (left, down) = np.median(np.linalg.norm(rows, axis=1)), np.median(rows, axis=0)
        yield f"| {name} | {len(rows)} | {far:.1f} | {left:+.1f} | {down:+.1f} |"


def offsets(dataset: CocoDataset, results: list[dict[str, Any]]) -> dict[str, list[list[float]]]:
    """Per keypoint, found minus labelled (x, y) in percent of the box's height; people matched by box and picture."""
    names = dataset.skeleton.names
    gathered: dict[str, list[list[float]]] = {name: [] for name in names}
    shoulders = [names.index(f"{side}_shoulder") for side in ("left", "right")]
    by_image: dict[int, list[NDArray[np.float64]]] = {}
    for result in results:
        by_image.setdefault(result["image_id"], []).append(np.reshape(result["keypoints"], (-1, 3)))
    for labelled, box, image in zip(dataset.keypoints, dataset.boxes_xyxy, dataset.image_ids.tolist(), strict=True):
        height, visible = box[3] - box[1], labelled[:, 2] == 2
        left, right = labelled[shoulders, 0]
        if height < 100 or not visible[shoulders].all() or left - right < 0.12 * height or image not in by_image:
            continue
        gaps = [np.median(np.linalg.norm((found - labelled)[visible, :2], axis=1)) for found in by_image[image]]
        nearest = by_image[image][int(np.argmin(gaps))]
        if min(gaps) > 0.1 * height:  # somebody else was found there
            continue
        for k in np.flatnonzero(visible):
            gathered[names[k]].append(((nearest - labelled)[k, :2] / height * 100).tolist())
    return gathered


# --- proportions

LINES = {"eyes": ("left_eye", "right_eye"), "shoulders": ("left_shoulder", "right_shoulder"),
         "hips": ("left_hip", "right_hip"), "knees": ("left_knee", "right_knee"),
         "ankles": ("left_ankle", "right_ankle")}  # fmt: skip
HEADINGS = ("eyes to nose", "eyes to ears", "eyes to shoulders", "shoulders to hips", "hips to knees",
            "knees to ankles", "shoulders, of the hips' width")


def proportions(chosen: argparse.Namespace) -> Iterator[str]:
    data = np.load(chosen.labels)
    # The file has no sizes: fractions of a common picture's will do, as heights are compared with heights alone
    theirs = measures(data["keypoints_xy"] / 65535 * (640, 480), data["visibility"])
    ours = measures(*drawn_people(chosen.scenes))
    yield from (
        "## Proportions", "",
        f"{heading()} Upright people seen from the front with all keypoints visible: {len(theirs):,} labelled in COCO "
        f"train2017, {len(ours):,} of {chosen.scenes:,} of our scenes. Medians of heights, in percent of that from "
        "eyes to ankles (in brackets: the standard error), and of the shoulders' width.", "",
        "| | " + " | ".join(HEADINGS) + " |", "|---" * (len(HEADINGS) + 1) + "|",
    )  # fmt: skip
    for name, rows in (("COCO's annotators", theirs), ("our mapping", ours)):
        middle = np.median(rows, axis=0)
        error = 1.253 * rows.std(axis=0) / np.sqrt(len(rows))  # of a median, where values spread like a normal's
        shown = [f"{100 * m:.1f} ({100 * e:.1f})" for m, e in zip(middle[:-1], error[:-1], strict=True)]
        yield "| " + " | ".join([name, *shown, f"{middle[-1]:.2f} ({error[-1]:.2f})"]) + " |"


def measures(points_NK2: NDArray[np.float64], seen_NK: NDArray[np.integer]) -> NDArray[np.float64]:
    """(n, 7) of those who stand upright and look at us, as HEADINGS say."""
    place = {name: points_NK2[:, COCO_17.names.index(name)] for name in COCO_17.names}
    place |= {name: (place[a] + place[b]) / 2 for name, (a, b) in LINES.items()}
    whole = place["ankles"] - place["eyes"]
    good = (seen_NK == 2).all(axis=1) & (whole[:, 1] > 0)
    steps = [place[lower] - place[upper] for upper, lower in pairwise(LINES)]
    for x, y in ((step[:, 0], step[:, 1]) for step in steps):
        good &= (y > 0) & (abs(x) < UPRIGHT * y)
    widths = [place[f"left_{part}"] - place[f"right_{part}"] for part in ("shoulder", "hip")]
    good &= (widths[0][:, 0] > FACING * whole[:, 1]) & (widths[1][:, 0] > 0)
    ears = (place["left_ear"] + place["right_ear"]) / 2
    heights = [place["nose"] - place["eyes"], ears - place["eyes"], *steps]
    columns = [*(height[good, 1] / whole[good, 1] for height in heights), widths[0][good, 0] / widths[1][good, 0]]
    return np.stack(columns, axis=1)


def drawn_people(scenes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Keypoints (N, K, 2) of everybody in so many scenes, and 2 for each that is before the camera (N, K)."""
    landmarks, config, people = read_landmarks(COCO_FILE), RenderConfig(), []
    for number in range(scenes):
        scene = draw_scene(np.random.default_rng([1, number]), config.size, config.people, draw_stance)
        people += [scene.camera.project(landmarks.of(f.points, f.heads)) for f in scene.figures]
    places = np.array(people, dtype=np.float64)
    return places[..., :2], np.where(places[..., 2] > 0, 2, 0)


# --- accuracy


WAYS = {"real": "real only", "then": "rendered, then real", "mixed": "both mixed"}


def accuracy(chosen: argparse.Namespace) -> Iterator[str]:
    from research import Judged, difference  # with torch, which the other parts do without
    from research import spread as of_seeds

    rendered = chosen.work / f"rendered-{chosen.pictures}"
    run("render", str(chosen.pictures), "--out", rendered, "--size", str(chosen.picture_size))
    file = rendered / "person_keypoints.json"
    width, height = chosen.input_size
    people = int(read_dataset(file).with_keypoints().sum())
    yield from (
        "## What they are worth", "",
        f"{heading()} {chosen.network} at {height}x{width}, {chosen.samples:,} samples each way (rendered, then real: "
        f"half and half; mixed: as many of each), {people:,} rendered people in {chosen.pictures:,} pictures, all "
        f"other settings the preset's. Keypoints at ground-truth boxes on {chosen.val.parent.name}, the public "
        f"validation subset, without flip test. Seeds: {chosen.seeds}, each with its own real people: mean (least to "
        "most); differences with the 95 % interval of a paired bootstrap over pictures.", "",
        "| real people | way | AP | mean OKS | AP against real only |", "|---|---|---|---|---|",
    )  # fmt: skip
    val = read_dataset(chosen.val)
    for real in chosen.people:
        files = {way: [results(chosen, file, people, real, way, seed) for seed in range(chosen.seeds)] for way in WAYS}
        judged = {way: Judged(val, done) for way, done in files.items()}
        for way, name in WAYS.items():
            mine = judged[way]
            gain = difference(judged["real"], mine) if way != "real" else ""
            yield f"| {real:,} | {name} | {of_seeds(mine.aps())} | {of_seeds(mine.oks().mean(axis=1))} | {gain} |"
    alone = Judged(val, [only_rendered(chosen, file, seed) for seed in range(chosen.seeds)])
    scores = f"{of_seeds(alone.aps())} | {of_seeds(alone.oks().mean(axis=1))}"
    yield f"| none | rendered only, half the samples | {scores} | |"


def results(chosen: argparse.Namespace, file: Path, people: int, real: int, way: str, seed: int) -> Path:
    """What a network that learned this way finds."""
    subset_ = subset(chosen.train, real, seed, chosen.work / f"real-{real}-{seed}")
    home = chosen.work / f"seed-{seed}"
    if way == "real":
        return trained(chosen, home / f"real-{real}", [str(subset_)], chosen.samples, seed)
    if way == "then":
        only_rendered(chosen, file, seed)
        return trained(chosen, home / f"then-{real}", [str(subset_)], chosen.samples // 2, seed, home / "rendered")
    both = [f"{subset_}:{people / real:.3f}", "--extra", str(file)]
    return trained(chosen, home / f"mixed-{real}", both, chosen.samples, seed)


def only_rendered(chosen: argparse.Namespace, file: Path, seed: int) -> Path:
    return trained(chosen, chosen.work / f"seed-{seed}" / "rendered", [str(file)], chosen.samples // 2, seed)


def subset(train_file: Path, people: int, seed: int, home: Path) -> Path:
    """A file of about so many labelled people: whole pictures in random order until there are enough."""
    target = home / "person_keypoints.json"
    if target.exists():
        return target
    dataset = read_dataset(train_file)
    data = to_json(dataset)
    labelled = dict(zip(dataset.ids.tolist(), dataset.with_keypoints().tolist(), strict=True))
    order = np.random.default_rng(seed).permutation(len(data["images"]))
    chosen: set[int] = set()
    left = people
    rows: dict[int, list[dict[str, object]]] = {}
    for row in data["annotations"]:
        rows.setdefault(row["image_id"], []).append(row)
    for number in order.tolist():
        image = data["images"][number]["id"]
        count = sum(labelled[row["id"]] for row in rows.get(image, []))  # type: ignore[index]
        if count and left > 0:
            chosen.add(image)
            left -= count
    home.mkdir(parents=True, exist_ok=True)
    (home / "images").symlink_to((train_file.parent / "images").resolve())
    write_json_compact(target, data | {
        "images": [image for image in data["images"] if image["id"] in chosen],
        "annotations": [row for row in data["annotations"] if row["image_id"] in chosen],
    })
    return target


def trained(chosen: argparse.Namespace, out: Path, data: list[str], samples: int, seed: int, init: Path | None = None,
            ) -> Path:
    """COCO results of a run on the validation set, unless they are there already."""
    found, model = out.with_suffix(".results.json"), out.with_suffix(".onnx")
    if not found.exists():
        start = ["--init", init] if init else []
        run("train", chosen.network, "--data", *data, "--out", out, "--samples", str(samples), "--input-size",
            *map(str, chosen.input_size), "--seed", str(seed), "--threads", str(chosen.threads), *start)
        run("export", out, "--out", model)
        run("eval", chosen.val, "--pose", model, "--threads", str(chosen.threads), "--out", found)
    return found


# --- both


def run(*words: str | Path) -> None:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "stagepose.cli", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"stagepose {' '.join(map(str, words))} failed:\n{done.stderr[-2000:]}")
    sys.stderr.write(f"stagepose {words[0]} ... {words[-1]}: {time.perf_counter() - began:.0f} s\n")


def heading() -> str:
    words = " ".join(word if "/" not in word else "/".join(Path(word).parts[-2:]) for word in sys.argv[1:])
    return (f"`python benchmarks/rendered.py {words}`, commit {commit()}, {date.today()}, "
            f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), Python {platform.python_version()}, "
            f"NumPy {np.__version__}.")


def renew(lines: list[str]) -> None:
    """Put a part in the place of its older one."""
    title = "# Rendered people"
    old = REPORT.read_text(encoding="utf-8").split("\n## ")[1:] if REPORT.exists() else []
    kept = {section.splitlines()[0]: f"## {section}".strip() for section in old}
    kept[lines[0].removeprefix("## ")] = "\n".join(lines)
    order = sorted(kept, key=PARTS.index)
    REPORT.write_text("\n\n".join([title, *(kept[name] for name in order)]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
