"""Training's speed beside the conventional way's: ``python benchmarks/train_throughput.py coco_train`` writes its .md.

A folder with ``person_keypoints.json`` and ``images/`` is what is trained on (its first pictures); without one,
synthetic photographs. Every measurement is a process of its own, and ways that are compared take turns, round by
round. On a GPU also 4xres50 in bf16, beside what the GPU's matrix multiplication reaches. ``--only-loading`` measures
the first part alone and keeps what the .md says of the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import conventional
import cv2
import numpy as np
import torch
from crop_store import patterns
from report import commit

from stagepose.coco import read_dataset
from stagepose.files import write_json, write_text
from stagepose.heatmaps import UdpDark
from stagepose.skeleton import COCO_17
from stagepose.training import loop, targets
from stagepose.training.augment import AugmentConfig
from stagepose.training.crops import CropSpec, PackConfig, open_store, pack_file
from stagepose.training.losses import stage_losses
from stagepose.training.machine import Machine, keep_freed_memory, use_threads
from stagepose.training.networks.cost import count, on_meta
from stagepose.training.networks.zoo import build, trunk_of
from stagepose.training.optim import make_optimizer
from stagepose.training.people import PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig

ROOT = Path(__file__).resolve().parents[1]
PICTURES, ROUNDS, SKIPPED = 500, 3, 1  # the first step pays for warming up
CODEC = UdpDark(input_size=(192, 256))
NETWORKS = {"lite0-u": (16, 4), "1xres50": (4, 3), "4xres50": (2, 2)}  # pictures of a step, steps of a round
WAYS = ("published", "modern", "ours-fp32", "ours")
LOADS = {"conventional": "(a) conventional: decode, affine, normalise, targets",
         "read": "(b) reading the raw store: all that a core does where a GPU augments",
         "read-jpeg": "(b) reading the JPEG store",
         "motion": "(b) raw store, on a CPU, augmentation as in (a): motion only",
         "raw": "(b) raw store, on a CPU, all augmentation of the presets",
         "jpeg": "(b) JPEG store, on a CPU, all augmentation of the presets"}
MOTION = AugmentConfig(rotation=45, scale=0.35, colour=0, grey_chance=0, occlusion_chance=0, blur_chance=0)
LOADED, AT_ONCE = 1024, 32  # samples of a round of loading
STEPS = "## Whole steps"
INTRODUCTION = """# How fast training is

(a) is the conventional way of this field's published code ([conventional.py](conventional.py)): the whole photo decoded
for every person, one affine with OpenCV, normalised on the CPU, targets in NumPy. (b) is the crop store, augmentation
in batches and the training loop that users run, EMA and log included. Network, loss and optimizer are the same.
Everything is samples per second of one core's processor time, on one thread, so that what else the machine does matters
little.
"""
GPU_BATCH, GPU_STEPS, GPU_SIDE = 128, 60, 8192


def pose_config(network: str, augment: AugmentConfig) -> PoseConfig:
    return PoseConfig(network=network, codec=CODEC, frozen=3 if network == "lite0-u" else 0, augment=augment)


def task_of(work: Path, network: str, *, form: str = "raw", augment: AugmentConfig | None = None,
            device: str = "cpu", seed: int = 0) -> PoseTask:
    [home] = [p for p in work.glob("crops/*") if ("-jpeg" in p.name) == (form == "jpeg")]
    store = open_store(home)
    torch.manual_seed(0)
    return PoseTask(build(network, 17), pose_config(network, augment or AugmentConfig()),
                    PeopleSets([store]).loaded(device), seed=seed, device=device)


def conventional_data(work: Path) -> conventional.Conventional:
    info = json.loads((work / "set.json").read_text())
    [codecs] = pose_config("lite0-u", MOTION).codecs(1)
    return conventional.Conventional(read_dataset(info["labels"]), Path(info["images"]), codecs)


# --- what the child processes measure


def load(work: Path, how: str) -> dict[str, Any]:
    """Samples made ready for a network, without one, on one core: per second of its time."""
    use_threads(1)
    cv2.setNumThreads(0)
    rng, parts = np.random.default_rng(), defaultdict[str, float](float)
    if how == "conventional":
        data = conventional_data(work)
        rows, parts = rng.permutation(len(data)).tolist(), data.seconds

        def make(first: int) -> None:
            conventional.collate([data[rows[i % len(rows)]] for i in range(first, first + AT_ONCE)])
    else:
        keep_freed_memory()
        task = task_of(work, "lite0-u", form="jpeg" if how.endswith("jpeg") else "raw", seed=int(rng.integers(1 << 30)),
                       augment=MOTION if how == "motion" else None)
        task.reader.in_place = not how.startswith("read")  # what goes to a GPU is copied into one piece

        def make(first: int) -> None:
            keys = [divmod(i, task.samples_per_epoch) for i in range(first, first + AT_ONCE)]
            if how.startswith("read"):
                task.reader.read(keys)
                return
            made = task.batch(keys)
            for codec in task.config.codecs(1)[0]:
                targets.encode(codec, made.keypoints[..., :2], made.keypoints[..., 2] > 0)
    for first in range(0, LOADED // 4, AT_ONCE):
        make(first)
    parts.clear()
    cpu, samples = time.process_time(), range(LOADED // 4, LOADED, AT_ONCE)
    for first in samples:
        make(first)
    done = len(samples) * AT_ONCE
    return {"rate": done / (time.process_time() - cpu), "parts": {k: v / done * 1e3 for k, v in parts.items()}}


def step(work: Path, way: str, network: str) -> dict[str, Any]:
    """Whole steps on one core, data and all; (b) is the real loop and its own log."""
    batch, steps = NETWORKS[network]
    use_threads(1)
    cv2.setNumThreads(0)
    if way in ("published", "modern"):
        config, net = pose_config(network, MOTION), build(network, 17)
        if config.frozen:
            trunk_of(net).freeze(config.frozen)

        def loss_of(*given: Any) -> torch.Tensor:
            return torch.stack(stage_losses(*given, kind="kl", level_weights=config.level_weights)).sum()

        optimizer = make_optimizer(net, lr=1e-3, weight_decay=0.05)
        found = list(conventional.steps(conventional_data(work), net, loss_of, optimizer, batch=batch, count=steps,
                                        workers=0, modern=way == "modern"))[SKIPPED:]
        return {"rates": [batch / cpu for cpu, _ in found], "clock": [batch / took for _, took in found]}
    return train_here(task_of(work, network), batch=batch, steps=steps, bf16=way == "ours")


def train_here(task: PoseTask, *, batch: int, steps: int, bf16: bool, device: str = "cpu",
               out: Path | None = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = out or Path(folder) / "run"
        config = loop.TrainConfig(batch=batch, samples=batch * steps, warmup=batch, log_every=1, save_every=10**6,
                                  save_minutes=1e6, bf16=bf16)
        loop.train(task, config, run, Machine(device=device, compile=device != "cpu"))
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    log = log[SKIPPED if device == "cpu" else GPU_STEPS // 2 :]
    clock = [r["samples_per_second"] for r in log]
    busy = [r["utilisation"] if device == "cpu" else 1.0 for r in log]  # the share of a core that the process got
    return {"rates": [c / b for c, b in zip(clock, busy, strict=True)], "clock": clock,
            "waits": [r["waiting_for_data"] for r in log]}


def gpu(work: Path) -> dict[str, Any]:
    """4xres50 in bf16, and the share of what the GPU reaches at multiplying large matrices."""
    a, b = (torch.randn(GPU_SIDE, GPU_SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(30):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = 2 * GPU_SIDE**3 / statistics.median(times[10:])
    found = train_here(task_of(work, "4xres50", device="cuda"), batch=GPU_BATCH, steps=GPU_STEPS, bf16=True,
                       device="cuda")
    macs = count(on_meta(lambda: build("4xres50", 17)), CODEC.input_size).macs
    rate = statistics.median(found["rates"])
    return {"device": torch.cuda.get_device_name(), "rate": rate, "peak_tflops": peak / 1e12, "gmacs": macs / 1e9,
            "share": rate * macs * 2 * 3 / peak, "wait": statistics.median(found["waits"])}  # back: twice forth


CHILDREN = {"load": load, "step": step, "gpu": gpu}


def child(work: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--child", str(work), *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


# --- what is trained on


def first_pictures(folder: Path, work: Path) -> Path:
    data = json.loads((folder / "person_keypoints.json").read_text())
    data["images"] = data["images"][:PICTURES]
    kept = {image["id"] for image in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
    write_json(work / "labels.json", data)
    return folder / "images"


def synthetic_photographs(work: Path) -> Path:
    """640 x 480, as large as COCO's in pixels and in bytes, with two people each."""
    (work / "images").mkdir()
    rng, images, annotations = np.random.default_rng(0), [], []
    pictures = patterns(CropSpec(input_size=(640, 480), context=1))
    for number in range(PICTURES):
        name = f"{number:06d}.jpg"
        cv2.imwrite(str(work / "images" / name), pictures[number % len(pictures)], [cv2.IMWRITE_JPEG_QUALITY, 92])
        images.append({"id": number, "file_name": name, "width": 640, "height": 480})
        for _ in range(2):
            x, y, w, h = (float(v) for v in rng.uniform([10, 10, 60, 150], [400, 200, 200, 260]))
            xy = rng.uniform([x, y], [x + w, y + h], (17, 2))
            annotations.append({"id": len(annotations), "image_id": number, "category_id": 1, "iscrowd": 0,
                                "bbox": [x, y, w, h], "area": w * h / 2, "num_keypoints": 17,
                                "keypoints": np.column_stack([xy, np.full(17, 2)]).ravel().tolist()})
    person = {"id": 1, "name": "person", "keypoints": list(COCO_17.names)}
    write_json(work / "labels.json", {"images": images, "annotations": annotations, "categories": [person]})
    return work / "images"


def prepare(folder: Path | None, work: Path) -> str:
    images = first_pictures(folder, work) if folder else synthetic_photographs(work)
    write_json(work / "set.json", {"labels": str(work / "labels.json"), "images": str(images.resolve())})
    for form in (PackConfig(), PackConfig(form="jpeg")):
        store = pack_file(work / "labels.json", images, work / "crops", spec=CropSpec(input_size=CODEC.input_size),
                          skeleton=COCO_17, config=form)
    shown = read_dataset(work / "labels.json").images
    pixels, size = (statistics.mean(values) for values in zip(
        *((i.width * i.height, (images / i.file_name).stat().st_size) for i in shown), strict=True))
    return (f"{len(shown)} {'pictures of ' + folder.name if folder else 'synthetic photographs'} (on average "
            f"{pixels / 1e6:.2f} megapixels, {size / 1e3:.0f} KB), {len(store):,} people")


# --- what is said


def loading(work: Path, rounds: int) -> tuple[list[str], float]:
    """The table's lines, and seconds of a core that a sample with all augmentation takes."""
    found: dict[str, list[dict[str, Any]]] = {how: [] for how in LOADS}
    for _ in range(rounds):
        for how in LOADS:
            found[how].append(child(work, "load", how))
    rates = {how: statistics.median(r["rate"] for r in found[how]) for how in LOADS}
    lines = ["| | samples/s of one core | x (a) | least to most of the rounds |", "|---|---|---|---|"]
    for how, said in LOADS.items():
        each = [r["rate"] for r in found[how]]
        lines.append(f"| {said} | {rates[how]:,.0f} | {rates[how] / rates['conventional']:.1f} | {min(each):,.0f} to "
                     f"{max(each):,.0f} |")
    parts = found["conventional"][0]["parts"]
    took = {p: statistics.median(r["parts"][p] for r in found["conventional"]) for p in parts}
    lines += ["", "Milliseconds of (a): " + ", ".join(f"{part} {ms:.2f}" for part, ms in took.items()) + "."]
    return lines, 1 / rates["raw"]


def stepping(work: Path, rounds: int, networks: list[str], seconds: float) -> list[str]:
    lines = ["| network (GMACs) | pictures a step | (a) as published: fp32, NCHW | (a) with bf16, channels-last | "
             "(b) fp32, channels-last | (b) ours: bf16, channels-last | (b) / (a) as published | at equal numerics | "
             "reading, of (b)'s step | reading, augmentation and targets |", "|" + "---|" * 10]
    for network in networks:
        rates, waits = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
        for _ in range(rounds):
            for way in WAYS:
                found = child(work, "step", way, network)
                rates[way] += found["rates"]
                waits[way] += found.get("waits", [])
        rate = {way: statistics.median(rates[way]) for way in WAYS}
        macs = count(on_meta(partial(build, network, 17)), CODEC.input_size).macs
        cells = [f"{network} ({macs / 1e9:.1f})", f"{NETWORKS[network][0]}", *(f"{rate[way]:.2f}" for way in WAYS),
                 f"{rate['ours'] / rate['published']:.2f}", f"{rate['ours'] / rate['modern']:.2f}",
                 f"{statistics.median(waits['ours']):.2%}", f"{seconds * rate['ours']:.2%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def gpu_lines(work: Path) -> list[str]:
    if not torch.cuda.is_available():
        return ["**On a GPU: not measured.** No GPU was at hand. With one, this script says here how fast 4xres50 "
                "learns in bf16, which share of the GPU's measured matrix multiplication that is, and how long it "
                "waits for data."]
    found = child(work, "gpu")
    return [f"On {found['device']}, 4xres50 ({found['gmacs']:.1f} GMACs) in bf16, 192 x 256, {GPU_BATCH} pictures a "
            f"step: {found['rate']:,.0f} samples/s, {found['share']:.0%} of the {found['peak_tflops']:.0f} TFLOPS that "
            f"bf16 matrices of {GPU_SIDE:,} reach here; {found['wait']:.2%} of the time no data was ready."]


def measured(arguments: argparse.Namespace, pictures: str, rounds: int) -> str:
    """How and when a part was measured, for its first line."""
    words = ["python benchmarks/train_throughput.py", arguments.folder.name if arguments.folder else "",
             "--only-loading" if arguments.only_loading else ""]
    return (f"`{' '.join(filter(None, words))}`, commit {commit()}, {date.today()}, {os.cpu_count()} cores "
            f"({platform.machine()}), Python {platform.python_version()}, PyTorch {torch.__version__}, OpenCV "
            f"{cv2.__version__}; {pictures}. Fresh processes, the ways taking turns, medians of {rounds} rounds. "
            f"{arguments.note}").strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="with person_keypoints.json and images/")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--step-rounds", type=int, help="of whole steps; as many as --rounds by default")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--only-loading", action="store_true", help="measure no steps; keep what the .md says of them")
    parser.add_argument("--note", default="", help="a sentence about the machine, for the result")
    parser.add_argument("--child", nargs="+", help="for itself: work folder, what, how")
    arguments = parser.parse_args()
    if arguments.child:
        work, what, *how = arguments.child
        sys.stdout.write(json.dumps(CHILDREN[what](Path(work), *how)))
        return
    result = ROOT / "benchmarks/train_throughput.md"
    kept = result.read_text().split(STEPS)[1] if arguments.only_loading else ""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pictures = prepare(arguments.folder, work)
        loads, seconds = loading(work, arguments.rounds)
        if not kept:
            rounds = arguments.step_rounds or arguments.rounds
            kept = "\n".join(["", "", measured(arguments, pictures, rounds), "",
                              "Data included, all augmentation of the presets in (b).", "",
                              *stepping(work, rounds, arguments.networks, seconds), "", *gpu_lines(work), ""])
    first = [INTRODUCTION, "## Loading", "", measured(arguments, pictures, arguments.rounds), "",
             "From the disk's cache to pictures and targets of four levels, batches of 32.", "", *loads, "", STEPS]
    write_text(result, "\n".join(first) + kept)
    sys.stdout.write(result.read_text())


if __name__ == "__main__":
    main()
