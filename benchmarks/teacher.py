"""What a teacher that is a model file costs a step, by PyTorch and by ONNX Runtime: ``python benchmarks/teacher.py``.

Writes teacher.md: processor time of one thread for the heatmaps of a batch of 16, in turns, for the models that ship.
"""

from __future__ import annotations

import statistics
from datetime import date
from pathlib import Path
from time import process_time

import onnxruntime
import torch
from report import commit, processor, table

from stagepose.files import write_text
from stagepose.runtime import read_info, shipped
from stagepose.training import machine, teacher

BATCH, ROUNDS = 16, 7
OUT = Path(__file__).with_name("teacher.md")


def seconds(ask: teacher.Teacher, images: torch.Tensor) -> float:
    start = process_time()
    ask.heatmaps(images, (images.shape[-1] // 4, images.shape[-2] // 4))
    return process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name in (name for name in shipped() if read_info(name).kind == "pose"):
        skeleton, codec = read_info(name).heatmaps_of
        asked = {}
        for runtime, bf16 in (("PyTorch", True), ("ONNX Runtime", False)):
            teacher.bf16_supported = lambda device, said=bf16: said  # type: ignore[assignment]
            asked[runtime] = teacher.open_teacher(name, skeleton, codec, "cpu")
        width, height = codec.input_size
        images = torch.randint(256, (BATCH, 3, height, width)).float().contiguous(memory_format=torch.channels_last)
        took: dict[str, list[float]] = {runtime: [] for runtime in asked}
        for _ in range(1 + ROUNDS):
            for runtime, each in asked.items():
                took[runtime].append(seconds(each, images) * 1e3 / BATCH)
        medians = {runtime: statistics.median(each[1:]) for runtime, each in took.items()}
        rows.append([name, f"{width}x{height}", *(f"{ms:.1f}" for ms in medians.values()),
                     f"{medians['ONNX Runtime'] / medians['PyTorch']:.2f}"])
    lines = ["# A teacher's time", "", f"`python benchmarks/teacher.py`, commit {commit()}, {date.today()}, "
             f"{processor()} {'with' if machine.bf16_supported('cpu') else 'without'} bfloat16, torch "
             f"{torch.__version__}, ONNX Runtime {onnxruntime.__version__}: milliseconds of processor time, of one "
             f"thread, in float32, for a person's heatmaps in a batch of {BATCH}; medians of {ROUNDS} rounds, in "
             "turns.", "",
             *table(("teacher", "input", "PyTorch", "ONNX Runtime", "ratio"), rows)]
    write_text(OUT, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
