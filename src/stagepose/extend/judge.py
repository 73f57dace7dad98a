"""Whether an independent network finds the pose that a person was made in. N people, K keypoints."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose import predictor
from stagepose.errors import ConfigError
from stagepose.extend.made import MadePerson, Recipe
from stagepose.oks import oks_of_person
from stagepose.runtime import read_info, resolve
from stagepose.skeleton import Skeleton, map_by_name

LEAST_OKS = 0.5  # below it a person is not found at all; a high bar would keep only what is solved already


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A pose ``model`` (a file, or the name of one that ships); people of an OKS below ``least`` are dropped."""

    model: str
    least: float = LEAST_OKS

    def __post_init__(self) -> None:
        if not 0 <= self.least <= 1:
            raise ConfigError(f"least OKS is {self.least}; expected 0 to 1")

    @property
    def digest(self) -> str:
        """SHA-256 of the model file."""
        return hashlib.sha256(resolve(self.model).read_bytes()).hexdigest()

    def check(self, recipe: Recipe) -> None:
        """:class:`ConfigError` where the model cannot judge what ``recipe`` makes, or has taught it."""
        info = read_info(self.model)
        if info.kind != "pose" or info.skeleton is None:
            raise ConfigError(f"judge {self.model} is a {info.kind}; name a pose model")
        if (map_by_name(info.skeleton, recipe.skeleton) < 0).all():
            raise ConfigError(f"judge {self.model} finds {', '.join(info.skeleton.names[:4])}, ..., none of the "
                              f"keypoints {', '.join(recipe.skeleton.names[:4])}, ...; name a model that does")
        if {info.sha256, self.digest} & recipe.taught_by:  # older runs tell the whole file's
            raise ConfigError(f"judge {self.model} is the network that taught the maker, and so finds what the maker "
                              "was taught to show it; name another pose model")

    def opened(self, skeleton: Skeleton) -> OpenJudge:
        """Ready to judge people of ``skeleton``."""
        return OpenJudge(self.model, skeleton)


class OpenJudge:
    """A judge with its network in memory, on one thread."""

    def __init__(self, model: str, skeleton: Skeleton) -> None:
        self._predictor = predictor.load(model, detector=None, threads=1)
        self._source_K = map_by_name(self._predictor.skeleton, skeleton)
        self._sigmas = np.array(skeleton.sigmas)

    def oks(self, pixels_HW3: NDArray[np.uint8], people: Sequence[MadePerson]) -> list[float | None]:
        """(N,) how well the network, given each person's box, finds the labelled keypoints that both skeletons have.

        None for somebody without any: there is nothing to judge by.
        """
        if not people:
            return []
        truth = np.stack([person.keypoints for person in people])
        truth = truth * (self._source_K >= 0)[None, :, None]
        boxes = np.stack([person.box_xyxy for person in people])
        found, _ = self._predictor.keypoints(pixels_HW3, boxes)
        areas = np.array([person.area for person in people])
        each = oks_of_person(truth, areas, boxes, found[:, self._source_K], self._sigmas)
        known = np.any(truth[..., 2] > 0, axis=1).tolist()
        return [round(float(oks), 4) if any_ else None for oks, any_ in zip(each, known, strict=True)]
