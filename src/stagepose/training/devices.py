"""Which device a training runs on, with how many threads, and with how many processes that read ahead."""

from __future__ import annotations

import os

import torch

from stagepose.cores import available_cores
from stagepose.errors import ConfigError
from stagepose.training import distributed
from stagepose.training.machine import Machine, use_threads

MOST_WORKERS = 8  # processes that read data for one GPU


def prepare_device(name: str, threads: int | None) -> str:
    """``auto`` -> this rank's GPU where there is one, else ``cpu``; ``threads`` CPU threads, None for all cores."""
    use_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    here, ranks = ["cpu"], int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus:
        here += ["cuda", *(f"cuda:{number}" for number in range(gpus))]
    if name not in here:
        raise ConfigError(f"device {name!r} is not here; use {' or '.join(['auto', *here])}")
    if name != "cpu" and ranks > (gpus if name == "cuda" else 1):
        raise ConfigError(f"{ranks} ranks on this machine, but device {name!r} has "
                          f"{f'{gpus} GPUs' if name == 'cuda' else 'one GPU'}: each needs its own; start torchrun with "
                          f"--nproc-per-node {gpus}, and with --device cuda or auto")
    return f"cuda:{distributed.local_rank()}" if name == "cuda" else name


def machine_for(device: str, workers: int | None, compiled: bool | None, *, resident: bool) -> Machine:
    """What None leaves open: a GPU gets torch.compile, and readers of its own unless it holds all data itself."""
    cuda = torch.device(device).type == "cuda"
    if workers is None:
        ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers = min(MOST_WORKERS, max(1, available_cores() // ranks_here - 1)) if cuda and not resident else 0
    return Machine(device=device, workers=workers, compile=cuda if compiled is None else compiled)
