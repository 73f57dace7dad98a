"""A way to make people of ``toy_models.TOY``: dots on black, which its pose model finds, or dots that nobody finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from toy_models import COLOURS, DOT, TOY

from stagepose.extend import Made, MadePerson, Refused, Source
from stagepose.skeleton import Skeleton

WIDTH, HEIGHT = 96, 128
UNSEEN = (0, 0, 255)  # the model looks for red and green


@dataclass(frozen=True)
class Dots:
    """Every third person is drawn in blue, every fifth picture cannot be made; seven beside others is the same."""

    seed: int = 0
    taught_by: frozenset[str] = frozenset()
    by: str = "dots"
    skeleton: Skeleton = TOY
    licences: Sequence[Mapping[str, Any]] = ()

    def check(self) -> None:
        pass

    def identity(self) -> dict[str, Any]:
        return {"size": (WIDTH, HEIGHT)}

    def maker(self) -> DotMaker:
        return DotMaker(self.seed)


@dataclass
class DotMaker:
    seed: int

    def make(self, numbers: Sequence[int]) -> list[Made | Refused]:
        return [Refused("a fifth one") if number % 5 == 4 else self._one(number) for number in numbers]

    def _one(self, number: int) -> Made:
        rng = np.random.default_rng([self.seed, number])
        keypoints = np.array([[48, 30, 2], [75, 80, 2], [20, 80, 2]], dtype=float)
        keypoints[:, :2] += rng.uniform(-6, 6, (3, 2))
        pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        for (x, y, _), colour in zip(keypoints, COLOURS, strict=True):
            _dot(pixels, x, y, UNSEEN if number % 3 == 2 else colour)
        person = MadePerson(np.array([0.0, 0, WIDTH, HEIGHT]), WIDTH * HEIGHT / 2, keypoints, notes={"mood": "good"})
        bystander = MadePerson(np.array([1.0, 1, 9, 9]), 64.0, keypoints, new=False)
        return Made(pixels, (person, bystander), (Source(f"{number:012d}.jpg", number + 1, 3),))


def _dot(pixels: NDArray[np.uint8], x: float, y: float, colour: tuple[int, int, int]) -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels[(rows - y) ** 2 + (columns - x) ** 2 < DOT**2] = colour
