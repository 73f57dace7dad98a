"""Trainings in processes of their own (``ranks.py``), for tests that kill and stop them, and disks soon full."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from waiting import LONGEST, until

from stagepose.training.checkpoint import newest_checkpoint

HERE = Path(__file__).parent


def launch(script, *words, ranks=1, env=None):
    launcher = [sys.executable]
    if ranks > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return subprocess.Popen([*launcher, str(HERE / script), *map(str, words)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, start_new_session=True,
                            env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}))


def start(out, ranks=1, env=None, **options):
    words = [f"{key}={value}" for key, value in {"seen": f"{out}.seen", **options}.items()]
    return launch("ranks.py", out, *words, ranks=ranks, env=env)


def finish(process):
    try:
        text, _ = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("the training hangs")
    return process.returncode, text


def run(out, ranks=1, **options):
    code, text = finish(start(out, ranks, **options))
    assert code == 0, text


def begin(out, steps, **options):
    """A training that has saved ``steps`` steps and is not done yet."""
    process = start(out, pause=0.02, **options)
    until(lambda: len(list(out.glob("steps/?????????"))) >= steps, process)
    return process


def as_if_nothing_had_happened(out, ranks=1):
    """Whether a training that was interrupted ended as one that was not."""
    return newest_checkpoint(out).step == 40 and same(uninterrupted(ranks), parts(out))


@cache
def uninterrupted(ranks):
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder) / "run", ranks)
        return parts(Path(folder) / "run")


def parts(out):
    return newest_checkpoint(out).parts


def same(a, b):
    return all(a[part].keys() == b[part].keys() and all(torch.equal(a[part][k], b[part][k]) for k in a[part])
               for part in ("model", "ema", "optimizer"))


@contextmanager
def file_system(folder, options="size=8m"):
    """One of its own, in memory; skips where this process may not mount any."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("this process may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
