"""What ``train``, ``train-stages``, ``gan train`` and ``experiment`` begin with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from stagepose.commands.console import note
from stagepose.training import distributed
from stagepose.training.runs import Report


@contextmanager
def started(device: str) -> Iterator[Report]:
    """All processes of a training, and how to say a line: of several only the first says anything."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with distributed.started(device):
        first = distributed.first()
        logging.getLogger("stagepose").setLevel(logging.INFO if first else logging.ERROR)
        yield note if first else lambda _: None
