"""What 8 bits cost and give: ``python benchmarks/int8.py VAL.json TRAIN.json`` writes int8.md.

The recipe of docs/deploy.md on pose models that ship, with all convolutions in 8 bits and without the first few: AP at
annotated boxes without flip test, and time of a person in batches of 8. Calibrated on people of TRAIN.json, with a
paired bootstrap over the pictures of VAL.json. Models take turns; times are medians of the rounds.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from report import commit, in_turns, processor, set_name, table

from stagepose.coco import CocoDataset, images_folder, read_dataset
from stagepose.evaluation import compare, judge_keypoints, predict_dataset
from stagepose.files import write_text
from stagepose.geometry import crop_affine, fit_box
from stagepose.images import read_image
from stagepose.modelinfo import stamp
from stagepose.predictor import load
from stagepose.runtime import PoseModel, read_info, resolve, shipped

SHIPPED = "as it ships"
RESULT = Path(__file__).with_suffix(".md")
PEOPLE, BATCH, ROUNDS, THREADS = 256, 8, 15, (1, 2)
LEFT_OUT = {"every convolution in 8 bits": 0, "all but the first": 1, "all but the first three": 3}


class Crops(CalibrationDataReader):
    def __init__(self, crops: NDArray[np.uint8]) -> None:
        self.batches = iter([{"crops": crops[i : i + BATCH]} for i in range(0, len(crops), BATCH)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.batches, None)


def crops_of(name: str, path: Path) -> NDArray[np.uint8]:
    """Of people spread over a labelled set, as the network sees them."""
    info, dataset = read_info(name), read_dataset(path)
    rows = np.flatnonzero(dataset.with_keypoints())
    rows = rows[np.linspace(0, len(rows) - 1, PEOPLE).astype(int)]
    files = {image.id: image.file_name for image in dataset.images}
    width, height = info.input_size
    crops = []
    for row in rows:
        pixels = read_image(path.parent / "images" / files[int(dataset.image_ids[row])]).pixels
        view = fit_box(dataset.boxes_xyxy[row], width / height, info.box_padding)
        crops.append(crop_affine(view, info.input_size).warp(pixels, info.input_size))
    return np.stack(crops)


def quantized(name: str, crops: NDArray[np.uint8], left_out: int, folder: Path) -> Path:
    ready, out = folder / "prepared.onnx", folder / f"{name}-{left_out}.onnx"
    quant_pre_process(str(resolve(name)), str(ready))
    convolutions = [node.name for node in onnx.load(ready).graph.node if node.op_type == "Conv"]
    quantize_static(str(ready), str(out), Crops(crops), per_channel=True, op_types_to_quantize=["Conv", "Add"],
                    nodes_to_exclude=convolutions[:left_out])
    out.write_bytes(stamp(out.read_bytes(), read_info(name)))
    return out


def milliseconds(models: dict[str, Path | str], crops: NDArray[np.uint8], threads: int) -> dict[str, float]:
    """Of a person, each model's."""
    calls = {what: partial(PoseModel(model, threads=threads), crops[:BATCH]) for what, model in models.items()}
    return {what: took / BATCH for what, took in in_turns(calls, ROUNDS).items()}


def rows_of(name: str, dataset: CocoDataset, folder: Path, train: Path, work: Path) -> list[list[str]]:
    crops = crops_of(name, train)
    models: dict[str, Path | str] = {SHIPPED: name}
    models |= {what: quantized(name, crops, count, work) for what, count in LEFT_OUT.items()}
    times = {threads: milliseconds(models, crops, threads) for threads in THREADS}
    judged = {what: judge_keypoints(dataset, predict_dataset(load(model, None), dataset, folder))
              for what, model in models.items()}
    lines = []
    for what, model in models.items():
        told = compare(judged[SHIPPED], judged[what])
        lost = ["", ""] if what == SHIPPED else [f"{told.b[0] - told.a[0]:+.3f}", str(told.intervals[0])]
        lines.append([what, f"{resolve(model).stat().st_size / 1e6:.1f}", f"{told.b[0]:.3f}", *lost,
                      *(f"{times[n][what]:.2f} ({times[n][SHIPPED] / times[n][what]:.2f})" for n in THREADS)])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("val", type=Path, help="COCO keypoint file to judge by, pictures in images/ beside it")
    parser.add_argument("train", type=Path, help="the same to calibrate on")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # the quantizer recommends a step that was taken
    dataset, folder = read_dataset(arguments.val), images_folder(arguments.val, None)
    lines = ["# 8 bits", "", f"`python benchmarks/int8.py {set_name(arguments.val)} {set_name(arguments.train)}`, "
             f"commit {commit()}, {date.today()}, ONNX Runtime {onnxruntime.__version__}, {processor()}: the recipe of "
             f"[docs/deploy.md](../docs/deploy.md), calibrated on {PEOPLE} people that the networks have learnt from, "
             "judged on the public validation subset at annotated boxes, no flip test. Milliseconds of a person in "
             f"batches of {BATCH}, medians of {ROUNDS} rounds that take turns; in brackets, times as fast.", ""]
    headings = ("", "MB", "AP", "difference", "95 % interval", *(f"ms on {n} threads" for n in THREADS))
    for name in (name for name in shipped() if read_info(name).kind == "pose"):
        with tempfile.TemporaryDirectory() as work:
            rows = rows_of(name, dataset, folder, arguments.train, Path(work))
        lines += [f"## {name}", "", *table(headings, rows), ""]
    write_text(RESULT, "\n".join(lines))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
