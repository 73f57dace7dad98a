"""What decides a detector's shape, and what of its guesses it hands on; sizes in pixels of the network's input."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self

from stagepose.errors import ConfigError
from stagepose.training.detector.trunks import TRUNKS

STRIDE_MULTIPLE = 32  # sides of the network's input are multiples of the coarsest trunk stride


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Which boxes leave the network. Recall comes first: whom it loses here, no pose network brings back.

    Bad boxes cost little: in a person's score the joints' count twice as much as the box's, and `predict` cuts by it.
    Each value was measured on the public validation subset (benchmarks/detector.md).
    """

    per_level: int = 200  # best anchors of a pyramid level that are looked at; 400 find nobody more
    proposals: int = 300  # of all levels, for the box head, whose cost grows with them; 400 find .005 more
    proposal_nms: float = 0.7  # .6 loses .02 of the people with keypoints
    second_looks: int = 40  # best boxes that the head looks at again where it put them; scores are averaged
    floor: float = 0.02  # least score; a ranking loses nothing by many bad boxes, but much by a missing one
    nms: float = 0.6  # people overlap: .5 loses the one behind; above, twins crowd others out of the best boxes
    blend: float = 0.15  # how far, in 1 - IoU, a kept box takes part in the mean of its like (box voting); 0 takes none
    most: int = 100  # boxes of a picture, the number that COCO judges

    def __post_init__(self) -> None:
        for name in ("per_level", "proposals", "most"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.second_looks < 0:
            raise ConfigError(f"second_looks is {self.second_looks}, expected 0 (none) or more")
        for name in ("proposal_nms", "floor", "nms", "blend"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a number from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """A detector's network.

    ``categories`` 1 is people alone, 80 all of COCO (people first); only people are ever handed on.
    ``frozen_blocks`` counts the trunk's first blocks that keep their ImageNet weights; 0 trains all.
    ``anchor_sizes`` has a row for each level of the pyramid: the trunk's, and one that is half as fine as the last.
    """

    categories: int = 1
    trunk: str = "lite0"
    pretrained: bool = True
    frozen_blocks: int = 5
    width: int = 96  # channels of the pyramid
    head_width: int = 256
    pool: int = 7  # cells of a region, each way
    samples: int = 1  # points of a cell, each way; 2 cost four times as much and find nobody more
    long_side: int = 480  # at test time; training shows pictures at its own, cheaper scale
    anchor_sizes: tuple[tuple[int, ...], ...] = ((14, 24), (40, 64), (104, 160), (230, 330))
    anchor_ratios: tuple[float, ...] = (0.8, 1.6, 3.0)  # height / width: sitting, cropped, standing
    proposals_train: int = 400
    anchors_per_image: int = 64  # that the proposals learn from: few, or easy background drowns a picture's few people
    regions_per_image: int = 64  # that the head learns from
    keeping: Keeping = field(default_factory=Keeping)

    def __post_init__(self) -> None:
        if self.categories < 1:
            raise ConfigError(f"categories is {self.categories}, expected at least 1 (people)")
        if self.trunk not in TRUNKS:
            raise ConfigError(f"trunk is {self.trunk!r}, expected one of {sorted(TRUNKS)}")
        levels = len(self.strides) + 1
        if len(self.anchor_sizes) != levels:
            raise ConfigError(f"anchor_sizes names {len(self.anchor_sizes)} levels, expected {levels}: those of trunk "
                              f"{self.trunk!r} and one more")
        if len({len(sizes) for sizes in self.anchor_sizes}) != 1:
            raise ConfigError(f"anchor_sizes is {self.anchor_sizes}, expected as many sizes on every level: they share "
                              "one head")
        if self.frozen_blocks and not self.pretrained:
            raise ConfigError(f"frozen_blocks is {self.frozen_blocks} but the trunk starts from noise; set it to 0")
        if self.pretrained and not TRUNKS[self.trunk].imagenet:
            raise ConfigError(f"trunk {self.trunk!r} has no ImageNet weights that are installed; set pretrained to "
                              "False, and frozen_blocks to 0")
        if self.long_side % STRIDE_MULTIPLE:
            raise ConfigError(f"long_side is {self.long_side}, expected a multiple of {STRIDE_MULTIPLE}")

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the trunk's maps, finest first; the pyramid has one level more."""
        return TRUNKS[self.trunk].strides

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """From what :func:`dataclasses.asdict` and JSON made of one; :class:`ConfigError` for other fields."""
        strange = sorted(set(data) - {f.name for f in fields(cls)})
        if strange:
            raise ConfigError(f"the detector's settings have {strange}, which this StagePose does not know; train it "
                              "again, or use the version that made it")
        tuples = {key: tuple(tuple(v) if isinstance(v, list) else v for v in value)
                  for key, value in data.items() if isinstance(value, list)}  # fmt: skip
        return cls(**{**data, **tuples, "keeping": Keeping(**data.get("keeping", {}))})
