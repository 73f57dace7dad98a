"""PyAV (the extra ``video``), which reads and writes video files; everything else in StagePose does without it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from stagepose.errors import MissingExtraError

AudioPacket = Any  # av.Packet


def pyav() -> Any:
    """The package, told to be quiet; :class:`MissingExtraError` where it is not installed."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingExtraError('av is not installed, which reads videos; run: pip install "stagepose[video]"'
                                ) from error
    av.logging.set_level(None)
    return av


def address(path: str | Path) -> str:
    """Absolute, since of ``12:30.mp4`` FFmpeg takes the start for a protocol."""
    return os.path.abspath(path)  # noqa: PTH100 - links stay what they are


def reason(error: BaseException) -> str:
    """What FFmpeg says of an error."""
    return str(getattr(error, "strerror", None) or error)
