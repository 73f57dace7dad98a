"""What weights in 8 bits cost: ``python benchmarks/storage.py VAL.json [MODEL ...]`` writes storage.md.

Each model, by default those that ship, as it is and with its weights stored as ``stagepose export --bits 8`` stores
them: size, AP on VAL.json (keypoints at annotated boxes without flip test, or people's boxes) with a paired bootstrap
over pictures, and time. Both take turns; times are medians of the rounds. Give files exported with ``--bits 16``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper
from report import commit, in_turns, processor, set_name, table

from stagepose.coco import CocoDataset, images_folder, read_dataset
from stagepose.evaluation import compare, detect_dataset, evaluate_boxes, judge_keypoints, predict_dataset
from stagepose.files import write_text
from stagepose.modelinfo import stamp
from stagepose.predictor import load
from stagepose.runtime import DetectorModel, PoseModel, read_info, resolve, shipped
from stagepose.training.storage import store_weights, stored_weights

RESULT = Path(__file__).with_suffix(".md")
BATCH, ROUNDS, PICTURE = 8, 15, (480, 640, 3)


def in_8_bits(model: str, folder: Path) -> Path:
    """The file of a model whose weights have 16, stored anew."""
    data = resolve(model).read_bytes()
    weights = stored_weights(data)
    whole = onnx.load_model_from_string(data)
    nodes = [node for node in whole.graph.node if node.output[0] not in weights]
    others = [t for t in whole.graph.initializer if t.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16)]
    del whole.graph.node[:], whole.graph.initializer[:]
    whole.graph.node.extend(nodes)
    whole.graph.initializer.extend([*others, *(numpy_helper.from_array(v, name) for name, v in weights.items())])
    out = folder / f"{Path(model).stem}.onnx"
    out.write_bytes(stamp(store_weights(whole.SerializeToString(), 8), read_info(model)))
    return out


def milliseconds(models: list[str | Path]) -> list[float]:
    """Of a picture or, in batches, of a person, on one thread."""
    rng = np.random.default_rng(0)
    if read_info(models[0]).kind == "detector":
        picture = rng.integers(0, 256, PICTURE, dtype=np.uint8)
        return list(in_turns({m: partial(DetectorModel(m, threads=1), picture) for m in models}, ROUNDS).values())
    width, height = read_info(models[0]).input_size
    crops = rng.integers(0, 256, (BATCH, height, width, 3), dtype=np.uint8)
    took = in_turns({m: partial(PoseModel(m, threads=1), crops) for m in models}, ROUNDS)
    return [each / BATCH for each in took.values()]


def accuracies(models: list[str | Path], dataset: CocoDataset, folder: Path) -> tuple[list[float], str]:
    """AP of both, and the interval of their difference where it can be told."""
    if read_info(models[0]).kind == "detector":
        found = [detect_dataset(DetectorModel(model, threads=1), dataset, folder) for model in models]
        return [evaluate_boxes(dataset, each).ap for each in found], ""
    a, b = (judge_keypoints(dataset, predict_dataset(load(model, None, threads=1), dataset, folder))
            for model in models)
    told = compare(a, b)
    return [float(told.a[0]), float(told.b[0])], str(told.intervals[0])


def row(model: str, dataset: CocoDataset, folder: Path, work: Path) -> list[str]:
    both: list[str | Path] = [model, in_8_bits(model, work)]
    sizes = [resolve(each).stat().st_size / 1e6 for each in both]
    times = milliseconds(both)
    (before, after), interval = accuracies(both, dataset, folder)
    return [Path(model).stem, f"{sizes[0]:.1f}", f"{sizes[1]:.1f}", f"{before:.4f}", f"{after:.4f}",
            f"{after - before:+.4f}", interval, f"{times[0]:.1f}", f"{times[1]:.1f}", f"{times[1] / times[0]:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("val", type=Path, help="COCO keypoint file to judge by, pictures in images/ beside it")
    parser.add_argument("models", nargs="*", default=shipped(), help="names that ship, or files of --bits 16")
    arguments = parser.parse_args()
    dataset, folder = read_dataset(arguments.val), images_folder(arguments.val, None)
    with tempfile.TemporaryDirectory() as work:
        rows = [row(model, dataset, folder, Path(work)) for model in arguments.models]
    headings = ("model", "MB, 16 bits", "MB, 8 bits", "AP, 16 bits", "AP, 8 bits", "difference", "95 % interval",
                "ms, 16 bits", "ms, 8 bits", "ratio")
    lines = ["# Weights in 8 bits", "", f"`python benchmarks/storage.py {set_name(arguments.val)}`, commit {commit()}, "
             f"{date.today()}, ONNX Runtime {onnxruntime.__version__}, {processor()}, one thread: weights stored in 8 "
             "bits with a scale for each output channel, and computed with in 32 (`stagepose export --bits 8`). AP on "
             "the public validation subset: keypoints at annotated boxes without flip test, or people's boxes. "
             f"Milliseconds of a person in batches of {BATCH}, or of a picture of {PICTURE[1]}x{PICTURE[0]}; medians "
             f"of {ROUNDS} rounds that take turns.", "", *table(headings, rows), ""]
    write_text(RESULT, "\n".join(lines))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
