"""What decides the pictures of a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagepose.claims import contents_digest
from stagepose.errors import ConfigError
from stagepose.making import LARGEST_SEED, scenes_in
from stagepose.rendering.landmarks import COCO_FILE

FORMAT = 3  # of what is rendered: raised when the same seed would no longer give the same pictures
SMALLEST, LARGEST = 32, 2048  # pixels of a picture's longer side
MOST_PEOPLE = 12


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """The longer ``size`` of a picture in pixels, at most so many ``people`` in one, the ``seed``.

    ``skeleton``: a file of keypoints on the body; ``backgrounds``: a folder of pictures without people; ``poses``: a
    COCO file whose people's poses are taken.
    """

    size: int = 256
    people: int = 4
    seed: int = 0
    skeleton: Path = COCO_FILE
    backgrounds: Path | None = None
    poses: Path | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("size", SMALLEST, LARGEST), ("people", 1, MOST_PEOPLE), ("seed", 0, LARGEST_SEED)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected {low} to {high}")

    def backdrops(self) -> tuple[Path, ...]:
        """The background pictures; one that cannot be read is refused."""
        return () if self.backgrounds is None else scenes_in(self.backgrounds, "--backgrounds")

    def identity(self, backdrops: Sequence[Path]) -> dict[str, Any]:
        """What must be the same for two runs to give one set; files count by what is in them."""
        return {
            "format": FORMAT, "size": self.size, "people": self.people, "seed": self.seed,
            "skeleton": contents_digest([self.skeleton]), "backgrounds": contents_digest(backdrops),
            "poses": contents_digest([self.poses] if self.poses else []),
        }  # fmt: skip
