"""The settings of a prediction besides its models, and the errors of a wrong one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from stagepose.errors import ConfigError
from stagepose.geometry import Padding, read_padding
from stagepose.images import MAX_PIXELS
from stagepose.names import meant
from stagepose.numeric import is_real
from stagepose.oks import DEFAULT_RULE, NMS_THRESHOLD, RESCORE_RULES
from stagepose.structures import KeepBy

LEAST_TILE = 64  # pixels; smaller is a slip, and takes hours


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Everything about a prediction except the models.

    ``threshold`` is the minimum person score (None: the pose model's own). It also applies to boxes unless
    ``box_threshold`` is given. The pose network is run on at most ``max_people`` boxes per picture, best first. Boxes
    that a caller gives are all used, and no person in them is dropped by score. At most ``keep`` people are kept of all
    that are found (None: everyone): the highest-scoring, or with ``keep_by`` "size" those with the largest boxes.
    ``flip`` is the flip test: it averages with the mirrored crop, more accurate, twice the time. ``batch`` is the batch
    size: people per forward pass. ``rescoring`` is a rule of :data:`stagepose.oks.RESCORE_RULES`; ``oks_nms`` drops a
    person whose OKS with a better one exceeds it (None: nobody; "auto": .5 with our rule, with the others as their
    authors do: .9, or with megvii nobody), and ``soft_nms`` lowers that person's score instead. ``box_padding``
    replaces the model's own: a number, or a pair (x, y) by which a box's sides grow before it is brought to the crop's
    aspect ratio, as Megvii's (1.09, 1.135). ``scales`` is the multi-scale test: the mean over crops that show so many
    times as much. ``tiles``: the detector is also run on overlapping tiles, for people too small to find in the whole
    picture: of so many pixels a side and larger, or with "auto" of the detector's own size and larger; slower by the
    number of tiles.
    """

    threshold: float | None = None
    box_threshold: float | None = None
    max_people: int = 100  # COCO's limit of boxes per picture
    keep: int | None = None
    keep_by: KeepBy = "score"
    flip: bool = False
    batch: int = 8
    rescoring: str = DEFAULT_RULE
    oks_nms: float | Literal["auto"] | None = "auto"
    soft_nms: bool = False
    box_padding: Padding | None = None
    scales: tuple[float, ...] = (1.0,)
    max_pixels: int = MAX_PIXELS
    tiles: int | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        self._refuse_other_kinds()
        for name in ("threshold", "box_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; it is a score, between 0 and 1")
        if isinstance(self.oks_nms, str) and self.oks_nms != "auto":
            raise ConfigError(f"oks_nms is {self.oks_nms!r}; use a number, None for no OKS-NMS, or 'auto'")
        if not isinstance(self.oks_nms, str) and self.oks_nms is not None and not 0 < self.oks_nms <= 1:
            raise ConfigError(f"oks_nms is {self.oks_nms}; it is an OKS, above 0 and up to 1, or None for no OKS-NMS")
        if self.rescoring not in RESCORE_RULES:
            raise ConfigError(f"rescoring is {self.rescoring!r}; use one of {sorted(RESCORE_RULES)}")
        if not self.scales or not all(0.5 <= scale <= 2 for scale in self.scales):
            raise ConfigError(f"scales is {self.scales}; give one or more, each 0.5 to 2 times the padded box")
        if self.soft_nms and self.nms_threshold is None:
            raise ConfigError(f"soft_nms lowers by an OKS threshold, but oks_nms is {self.oks_nms!r} with rescoring "
                              f"{self.rescoring!r}, which is none; give oks_nms a number")
        if self.keep is None and self.keep_by != "score":
            raise ConfigError(f"keep_by is {self.keep_by!r}, which says whom to keep; give keep a number of people too")
        is_word = self.tiles is None or (isinstance(self.tiles, str) and self.tiles == "auto")
        if not is_word and not (is_real(self.tiles) and self.tiles >= LEAST_TILE):
            raise ConfigError(f"tiles is {self.tiles!r}; use the side of a tile in pixels, from {LEAST_TILE} on, "
                              "'auto' for the detector's own size, or None for no tiles")
        optional = [name for name in ("keep", "tiles") if is_real(getattr(self, name))]
        for name in ("max_people", "batch", "max_pixels", *optional):
            value = getattr(self, name)
            if not 1 <= value < math.inf or value != int(value):
                raise ConfigError(f"{name} is {value}; use a whole number from 1 on")
            object.__setattr__(self, name, int(value))  # 1e8 will do

    def _refuse_other_kinds(self) -> None:
        """Text, lists and the like where a number or a switch is expected."""
        unset = {"threshold", "box_threshold", "keep", "oks_nms"}  # may be None, and oks_nms a word
        for name in ("threshold", "box_threshold", "max_people", "keep", "batch", "oks_nms", "max_pixels"):
            value = getattr(self, name)
            if not (is_real(value) or (value is None and name in unset)
                    or (isinstance(value, str) and name == "oks_nms")):
                raise ConfigError(f"{name} is {value!r}, expected a number")
        for name in ("flip", "soft_nms"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected True or False")
        if not isinstance(self.rescoring, str):
            raise ConfigError(f"rescoring is {self.rescoring!r}; use one of {sorted(RESCORE_RULES)}")
        if not (isinstance(self.keep_by, str) and self.keep_by in ("score", "size")):
            raise ConfigError(f"keep_by is {self.keep_by!r}; use 'score', or 'size' for the largest boxes")
        scales = tuple(self.scales) if isinstance(self.scales, Iterable) else ("none",)
        if not all(map(is_real, scales)):
            raise ConfigError(f"scales is {self.scales!r}, expected several numbers, such as (0.8, 1, 1.2)")
        object.__setattr__(self, "scales", scales)
        if self.box_padding is not None:
            try:
                object.__setattr__(self, "box_padding", read_padding(self.box_padding))
            except ValueError as error:
                raise ConfigError(f"box_padding is {self.box_padding!r}; {error}, and None the model's own") from error

    @property
    def nms_threshold(self) -> float | None:
        """``oks_nms`` with "auto" resolved by the rule; ``soft_nms`` uses the same one for all rules."""
        if self.oks_nms == "auto":
            threshold = RESCORE_RULES[self.rescoring].nms
            return NMS_THRESHOLD if self.soft_nms and threshold is not None else threshold
        return self.oks_nms


def replaced(config: PredictorConfig, changes: dict[str, Any], besides: Sequence[str] = ()) -> PredictorConfig:
    """The settings with changes; an error about an unknown one also lists ``besides``, the caller's other ones."""
    for name in changes:
        if name not in PredictorConfig.__dataclass_fields__:
            names = sorted([*PredictorConfig.__dataclass_fields__, *besides])
            near = meant(name, names)
            guess = f"did you mean {near[0]}? The" if near else "the"
            raise ConfigError(f"no setting {name!r}; {guess} settings are {', '.join(names)}")
    return replace(config, **changes)
