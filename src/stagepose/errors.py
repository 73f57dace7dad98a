"""The exception tree. Every mistake a user can make ends in one of these, with one line that says

what is wrong, where, which value was found, and how to fix it.

StagePoseError
├── ImageError          a picture that cannot be read, or may not be
├── VideoError          a video that cannot be read or written
├── SkeletonError       keypoint names, pairs or sigmas that do not fit together
├── DatasetError        an annotation or result file
├── ModelError          a model file, or a model that does not fit its use
├── ConfigError         a setting out of range
├── CheckpointError     a run folder or a checkpoint in it
├── TrainingError       a run that cannot go on
└── MissingExtraError   a feature whose packages are not installed
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class StagePoseError(Exception):
    """Root of all errors that StagePose raises for user input."""


class ImageError(StagePoseError):
    """A picture that cannot be read, or may not be."""


class VideoError(StagePoseError):
    """A video that cannot be read or written."""


class SkeletonError(StagePoseError):
    """Keypoint names, pairs or sigmas that do not fit together."""


class DatasetError(StagePoseError):
    """An annotation or result file that is not as it must be."""


class ModelError(StagePoseError):
    """A model file, or a model that does not fit its use."""


class ConfigError(StagePoseError):
    """A setting out of range, or settings that contradict each other."""


class CheckpointError(StagePoseError):
    """A run folder or a checkpoint in it."""


class TrainingError(StagePoseError):
    """A training run that cannot go on."""


class MissingExtraError(StagePoseError):
    """A feature whose packages are not installed; the message holds the pip line."""


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Turns the error of a package that is not installed into a :class:`MissingExtraError` with the pip line."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "stagepose").startswith("stagepose"):  # a mistake of ours
            raise
        if error.name == "fcntl":  # of no package: Windows lacks it
            raise MissingExtraError("training locks its folders with fcntl, which Windows lacks; run it in WSL"
                                    ) from error
        raise MissingExtraError(f'{error.name} is not installed; run: pip install "stagepose[{extra}]"') from error
