"""A training that tests start in processes of its own, alone or under torchrun: ``ranks.py OUT [option=value ...]``."""

import gc
import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from stagepose import files
from stagepose.errors import StagePoseError
from stagepose.evaluation.kept import UNJUDGED
from stagepose.training import distributed
from stagepose.training.loop import TrainConfig, train
from stagepose.training.machine import Machine
from stagepose.training.randomness import uniforms


class Line:
    """Learn y = 2 x - 1; every rank writes down the samples it shows, beside its run folder."""

    samples_per_epoch = 50
    seed = 0

    def __init__(self, options):
        torch.manual_seed(distributed.rank())  # ranks that begin alike only because the first one's weights are taken
        self.model = self.network = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        self.reader, self.options, self.calls = Reader(options), options, 0

    def prepare(self, read):
        keys, x = read
        with Path(self.options["seen"]).open("a") as file:
            file.write(json.dumps({"rank": distributed.rank(), "world": distributed.world(), "keys": keys}) + "\n")
        return x

    def loss(self, model, x):
        self.calls += 1
        time.sleep(float(self.options.get("pause", 0)))
        if self.calls == int(self.options.get("still_at", 0)):
            stand_still(Path(self.options["said"]))
        return {"line": (model(x) - (2 * x - 1)).square().mean()}

    def idle(self):
        return []

    def evaluate(self, model):
        return UNJUDGED

    def overlays(self, model):
        return None

    def names(self, samples):
        return [str(key) for key in samples]

    def describe(self):
        return {"kind": "line"}


class Reader:
    def __init__(self, options):
        self.pids = options.get("pids")

    def read(self, samples):
        if self.pids and torch.utils.data.get_worker_info() is not None:
            Path(self.pids).mkdir(exist_ok=True)
            (Path(self.pids) / str(os.getpid())).touch()
        return list(samples), torch.as_tensor(uniforms(0, samples, 1), dtype=torch.float32)


@contextmanager
def left_behind(options):
    """Write down how many wrapped modules outlive the ranks' group, whose threads they would take into the exit."""
    try:
        yield
    finally:
        if options.get("left"):
            alive = sum(isinstance(thing, DistributedDataParallel) for thing in gc.get_objects())
            Path(f"{options['left']}-{os.environ['RANK']}").write_text(str(alive))


def pause_before(name, ready):
    """Stand still just before a file of this name is written, and say so."""
    write = files.write_json

    def write_later(path, value):
        if Path(path).name == name:
            Path(ready).touch()
            time.sleep(3600)
        write(path, value)

    files.write_json = write_later


def stand_still(said):
    """For an hour; ``said`` is there from the start on, and is gone once a Ctrl-C has been noted."""
    note = signal.getsignal(signal.SIGINT)

    def noted(*signal_and_frame):
        note(*signal_and_frame)
        said.unlink()

    signal.signal(signal.SIGINT, noted)
    said.touch()
    time.sleep(3600)


def main(out, options):
    torch.set_num_threads(1)
    if options.get("pause_before"):
        pause_before(options["pause_before"], options["ready"])
    config = TrainConfig(batch=8, samples=int(options.get("samples", 320)), warmup=8, lr=0.02, bf16=False, log_every=5,
                         save_every=5, accumulate=int(options.get("accumulate", 1)))
    with left_behind(options), distributed.started("cpu"):
        mine = f"{out}-of-rank-{distributed.rank()}" if options.get("apart") and distributed.rank() else out
        if options.get("ready") and not options.get("pause_before"):
            Path(f"{options['ready']}-{distributed.rank()}").write_text(str(os.getpid()))
        train(Line(options), config, mine, Machine(workers=int(options.get("workers", 0))))


if __name__ == "__main__":
    try:
        main(sys.argv[1], dict(word.split("=", 1) for word in sys.argv[2:]))
    except StagePoseError as error:  # as the command line does
        sys.exit(f"error: {error}")
