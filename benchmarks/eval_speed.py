"""COCO-sized keypoint evaluation beside pycocotools and faster-coco-eval, in one run:

``python benchmarks/eval_speed.py coco2017_train_labels.npz`` -> eval_speed.md. The labels of the whole of train2017
(people's boxes and keypoints as fractions of the picture; every picture is taken as 640x480) with made-up results of
every quality: people found well and badly, twice, and where nobody is. Each evaluator runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from report import commit
from tyro.conf import Positional

from stagepose.coco import read_dataset
from stagepose.cores import available_cores
from stagepose.evaluation import compare, evaluate_keypoints, intervals, judge_keypoints
from stagepose.evaluation.bootstrap import FEWEST
from stagepose.files import write_text
from stagepose.skeleton import COCO_17

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 640, 480
SEGMENT = 0.53  # of a box is the person, about; the labels have no areas
CROWDS = 0.01  # share of the people who are made crowds
QUALITIES = (0.02, 0.05, 0.12, 0.4)  # standard deviations of the made-up keypoints, in roots of the person's area
TWICE, GHOSTS = 0.1, 0.15  # more results, as shares of the people: second finds, and finds of nobody
MINI_VAL = 6_352  # people of the report's mini-val, for the bootstrap
RESAMPLES = 1_000
EVALUATORS = ("stagepose", "faster-coco-eval", "pycocotools")
LIMIT = 1e-9  # that the evaluators may differ by


def main(
    labels: Positional[Annotated[Path | None, tyro.conf.arg(metavar="LABELS.npz")]] = None,
    *,
    people: int | None = None,
    rounds: int = 3,
    out: Path = ROOT / "benchmarks/eval_speed.md",
    only: str | None = None,
    folder: Path | None = None,
) -> None:
    """Measure the evaluators, and write them down.

    Args:
        labels: coco2017_train_labels.npz.
        people: Only about so many people, for a quick try.
        rounds: Every evaluator runs so often, in turns; pycocotools once.
        out: The Markdown file to write.
        only: Run this evaluator on the files in FOLDER and print what was measured, as JSON.
        folder: Of the two files; a temporary one by default.
    """
    if only is not None and folder is not None:
        sys.stdout.write(json.dumps(measure(only, folder)))
        return
    if labels is None:
        raise SystemExit("error: name the labels, coco2017_train_labels.npz")
    with tempfile.TemporaryDirectory() as temporary:
        sizes = write_files(labels, Path(temporary), people)
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in EVALUATORS}
        for number in range(rounds):
            for name in EVALUATORS:
                if name != "pycocotools" or number == 0:
                    sys.stderr.write(f"round {number + 1}: {name}\n")
                    measured[name].append(in_process(name, Path(temporary)))
        mini = Path(temporary) / "mini"
        mini.mkdir()
        few = write_files(labels, mini, min(people or MINI_VAL, MINI_VAL))
        lines = [*report(sizes, measured), *bootstrap(few, mini)]
    write_text(out, "\n".join(lines))
    sys.stdout.write("\n".join(lines))


def write_files(labels: Path, folder: Path, people: int | None) -> dict[str, int]:
    """truth.json and results.json; how many of what is in them."""
    rng = np.random.default_rng(0)
    with np.load(labels) as file:
        images, boxes, xy, seen = (file[name][:people] for name in
                                   ("image_id", "box_cxcywh", "keypoints_xy", "visibility"))
    side = np.array([WIDTH, HEIGHT])
    xy_NK2 = np.round(xy / 65535 * (side - 1), 1)
    centres, sizes = (part / 65535 * side for part in np.split(boxes, 2, axis=1))
    areas = np.round(np.maximum(sizes.prod(axis=1) * SEGMENT, 1.0), 2)
    xywh = np.round(np.hstack([centres - sizes / 2, np.maximum(sizes, 1)]), 2)
    flat = np.dstack([xy_NK2 * (seen > 0)[..., None], seen]).reshape(len(images), -1)
    columns = zip(images.tolist(), (rng.random(len(images)) < CROWDS).tolist(), xywh.tolist(), areas.tolist(),
                  (seen > 0).sum(axis=1).tolist(), flat.tolist(), strict=True)
    truth = {
        "images": [{"id": n, "file_name": f"{n:012d}.jpg", "width": WIDTH, "height": HEIGHT}
                   for n in np.unique(images).tolist()],
        "annotations": [
            {"id": number, "image_id": image, "category_id": 1, "iscrowd": int(crowd), "bbox": box, "area": area,
             "num_keypoints": labelled, "keypoints": keypoints}
            for number, (image, crowd, box, area, labelled, keypoints) in enumerate(columns, start=1)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.names), "skeleton": []}],
    }  # fmt: skip
    results = made_up_results(rng, images, xy_NK2, areas)
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    return {"people": len(images), "images": len(truth["images"]), "results": len(results)}


def made_up_results(rng: np.random.Generator, images_N: NDArray[Any], xy_NK2: NDArray[np.float64],
                    areas_N: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Everybody once, some twice, and some elsewhere; scores that know a little of the quality, with many ties."""
    count, ghosts = len(images_N), int(GHOSTS * len(images_N))
    whose = np.concatenate([np.arange(count), rng.choice(count, int(TWICE * count)), rng.choice(count, ghosts)])
    spread = rng.choice(QUALITIES, len(whose)) * np.sqrt(areas_N[whose])
    points = xy_NK2[whose] + rng.normal(size=(len(whose), 17, 2)) * spread[:, None, None]
    points[-ghosts:] += rng.uniform(-300, 300, (ghosts, 1, 2))
    scores = np.clip(0.8 - spread / 200 + rng.normal(0, 0.2, len(whose)), 0, 1).round(3)
    flat = np.dstack([points.round(2), rng.uniform(0, 1, (len(whose), 17)).round(3)]).reshape(len(whose), -1)
    return [{"image_id": image, "category_id": 1, "keypoints": row, "score": score}
            for image, row, score in zip(images_N[whose].tolist(), flat.tolist(), scores.tolist(), strict=True)]


def in_process(name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", name, "--folder", str(folder)]
    measured: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return measured


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Processor seconds of each step, peak memory, and the ten numbers; other work on the machine disturbs less so."""
    steps: dict[str, float] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        done = work()
        steps[step] = time.process_time() - start
        return done

    with contextlib.redirect_stdout(io.StringIO()):
        numbers = {"stagepose": ours, "faster-coco-eval": faster, "pycocotools": original}[name](folder, timed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"steps": steps, "numbers": numbers, "megabytes": peak}


def ours(folder: Path, timed: Callable[[str, Callable[[], Any]], Any]) -> list[float]:
    truth = timed("truth", lambda: read_dataset(folder / "truth.json"))
    results = timed("results", lambda: json.loads((folder / "results.json").read_bytes()))
    numbers: list[float] = timed("judge", lambda: evaluate_keypoints(truth, results).numbers())
    return numbers


def faster(folder: Path, timed: Callable[[str, Callable[[], Any]], Any]) -> list[float]:
    from faster_coco_eval import COCO, COCOeval_faster

    def judge() -> list[float]:
        evaluation = COCOeval_faster(truth, truth.loadRes(results), "keypoints")
        evaluation.run()
        return [float(value) for value in evaluation.stats[:10]]

    truth = timed("truth", lambda: COCO(str(folder / "truth.json")))
    results = timed("results", lambda: json.loads((folder / "results.json").read_bytes()))
    numbers: list[float] = timed("judge", judge)
    return numbers


def original(folder: Path, timed: Callable[[str, Callable[[], Any]], Any]) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def judge() -> list[float]:
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return [float(value) for value in evaluation.stats]

    truth = timed("truth", lambda: COCO(str(folder / "truth.json")))
    results = timed("results", lambda: json.loads((folder / "results.json").read_bytes()))
    numbers: list[float] = timed("judge", judge)
    return numbers


def bootstrap(sizes: dict[str, int], folder: Path) -> list[str]:
    """Lines about the time of intervals and of a comparison."""
    truth, results = read_dataset(folder / "truth.json"), json.loads((folder / "results.json").read_bytes())
    a, b = judge_keypoints(truth, results), judge_keypoints(truth, results[::2])
    compare(a, b, FEWEST)  # who is whom is found out once, whatever the number of draws
    seconds = []
    for work in (lambda: intervals(a, RESAMPLES), lambda: compare(a, b, RESAMPLES)):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return [f"Intervals of the ten numbers from {RESAMPLES:,} draws of {sizes['images']:,} images with "
            f"{sizes['people']:,} people (the size of the report's mini-val): {seconds[0]:.1f} processor seconds; a "
            f"comparison of two results on as many: {seconds[1]:.1f}.", ""]  # fmt: skip


def report(sizes: dict[str, int], measured: dict[str, list[dict[str, Any]]]) -> list[str]:
    reference = np.array(measured["pycocotools"][0]["numbers"])
    apart = {name: max(float(np.abs(np.array(run["numbers"]) - reference).max()) for run in runs)
             for name, runs in measured.items()}
    if apart["stagepose"] > LIMIT:
        raise SystemExit(f"error: StagePose's numbers differ from pycocotools' by {apart['stagepose']}")
    judge = {name: statistics.median(run["steps"]["judge"] for run in runs) for name, runs in measured.items()}
    whole = {name: statistics.median(sum(run["steps"].values()) for run in runs) for name, runs in measured.items()}
    rows = []
    for name, runs in measured.items():
        seconds = [statistics.median(run["steps"][step] for run in runs) for step in ("truth", "results", "judge")]
        rows.append(f"| {name} {version(name)} | " + " | ".join(f"{value:.1f}" for value in seconds)
                    + f" | {judge['pycocotools'] / judge[name]:.1f} | {whole[name]:.1f} | "
                    f"{whole['pycocotools'] / whole[name]:.1f} | "
                    f"{statistics.median(run['megabytes'] for run in runs):,.0f} | {apart[name]:.1e} |")
    return [
        "# The evaluation's time and memory", "",
        f"`python benchmarks/eval_speed.py coco2017_train_labels.npz`, commit {commit()}, {date.today()}, "
        f"{available_cores()} cores, shared with other work, Python {platform.python_version()}, NumPy "
        f"{version('numpy')}.", "",
        f"{sizes['people']:,} people of {sizes['images']:,} images (the labels of COCO train2017, every image taken as "
        f"{WIDTH}x{HEIGHT}, areas as {SEGMENT} of the box, {CROWDS:.0%} of the people made crowds) and "
        f"{sizes['results']:,} made-up results, with second finds, finds of nobody and many equal scores. "
        f"Processor seconds, medians of {len(measured['stagepose'])} rounds in turns, pycocotools of one; each in a "
        "process of its own.",
        "",
        "| | read truth | read results | judge | times as fast | everything | times as fast | peak MB | differ by |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows, "",
        "*Judge* goes from the parsed results to the ten numbers; ours looks at every number of the results first, and "
        "its reading of the truth looks for every mistake that `stagepose check` knows. *Differ* is the largest "
        f"difference of the ten numbers from pycocotools'; the script fails above {LIMIT:.0e}.", "",
    ]  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
