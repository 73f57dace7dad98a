"""A detector's training data: samples by key, each one picture, or several on one canvas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stagepose.training.detector.augment import BoxAugment, BoxSample, Shown, cut
from stagepose.training.detector.cache import PixelCache
from stagepose.training.detector.compose import donors, mosaic, paste
from stagepose.training.detector.dataset import BoxSet
from stagepose.training.randomness import ORDER_STREAM, SampleKey, generator

MOSAIC = 4  # pictures on one canvas


class BoxData:
    """A :class:`BoxSet` with its pixels, ready to hand out augmented samples by key."""

    def __init__(self, boxes: BoxSet, cache: PixelCache, *, augment: BoxAugment, seed: int) -> None:
        self.boxes, self.cache, self.config, self.seed = boxes, cache, augment, seed
        self._donors = [(row, person) for row in range(len(self)) for person in donors(self.shown(row))]

    def __len__(self) -> int:
        return len(self.boxes.images)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Every picture once, shuffled."""
        return np.asarray(generator(self.seed, epoch, ORDER_STREAM).permutation(len(self)), dtype=np.int64)

    def shown(self, row: int) -> Shown:
        """Picture ``row`` as it lies in the cache."""
        return Shown.of(self.cache.image(row), self.boxes.images[row], float(self.cache.scales[row]))

    def sample(self, key: SampleKey, row: int) -> BoxSample:
        """Picture ``row`` as the sample ``key`` = (epoch, position) sees it, alone or with others."""
        config, rng = self.config, generator(self.seed, *key)
        if rng.random() < config.mosaic_chance:
            rows = [row, *rng.integers(0, len(self), MOSAIC - 1).tolist()]
            sample = mosaic([self.shown(r) for r in rows], config, config.long_side, rng)
        else:
            sample = cut(self.shown(row), config.canvas, config.long_side, config, rng)
        if self._donors and rng.random() < config.paste_chance:
            for _ in range(int(rng.integers(1, config.most_pasted + 1))):
                giver, person = self._donors[int(rng.integers(len(self._donors)))]
                sample = paste(sample, self.shown(giver), person, config, rng)
        return sample
