"""The settings of a pose network and its task, and whether they fit each other and the network."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from stagepose.errors import ConfigError
from stagepose.geometry import BOX_PADDING, LEAST_PADDING, MOST_PADDING, Size
from stagepose.heatmaps import Codec, Megvii
from stagepose.training import targets
from stagepose.training.augment import AugmentConfig
from stagepose.training.losses import HeatmapLoss
from stagepose.training.networks import cost
from stagepose.training.networks.multistage import MultiStage
from stagepose.training.networks.zoo import StageOptions, row_length, stages_of, trunk_of

# what runs of other codecs than megvii say of the kernels, which they do not use: as older ones did, which then go on
UNUSED_KERNELS = (11, 9, 7, 5)
LEVEL_WEIGHTS = (1.0, 0.25, 0.25, 0.25)  # a network of fewer levels takes the first of them


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """Everything about a pose network but its weights and schedule. A tuple "one a stage" may be empty: all alike."""

    network: str
    codec: Codec
    box_padding: float = BOX_PADDING  # the network's view of a person, times the box
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: HeatmapLoss = "kl"
    level_weights: tuple[float, ...] = LEVEL_WEIGHTS  # of the losses, finest first
    level_sigmas: tuple[float, ...] = (2.0, 1.5, 1.0, 0.75)  # heatmap pixels; coarse levels need no wide targets
    level_kernels: tuple[int, ...] = (5, 7, 9, 11)  # the same for the codec "megvii", in pixels; coarser ones wider
    upsample: bool = False  # coarse levels are judged at the finest's size
    imagenet: bool = False  # start an EfficientNet-Lite trunk from ImageNet weights
    frozen: int = 0  # first blocks of such a trunk that keep them
    init_std: float = 0.0  # of the Gaussian that convolutions start from; 0 takes Kaiming's fan-out
    stages: int = 0  # of a network in a row; 0 for as many as its name says
    join: StageOptions = field(default_factory=StageOptions)
    stage_weights: tuple[float, ...] = ()  # of the losses, one a stage
    coarse: tuple[float, ...] = ()  # one a stage: so many times wider targets (coarse to fine: the first the widest)
    ohkm: tuple[int, ...] = ()  # one a stage: so many hardest joints count on the finest level; 0 all
    hardest_of: int = 1  # so many augmentations of each sample: the one with the greatest loss is learnt from
    absent: float = 0.0  # of a labelled joint's pull, what one without a place in the view has: towards a flat heatmap
    teacher_share: float = 0.5  # of a labelled joint's target on the finest level, where there is a teacher
    gates: tuple[float, ...] = ()  # one a later stage: it learns from samples whose OKS after the one before is lower

    def __post_init__(self) -> None:
        if not 0 < len(self.level_weights) <= min(len(self.level_sigmas), len(self.level_kernels)):
            raise ConfigError(f"level_weights has {len(self.level_weights)} levels, level_sigmas "
                              f"{len(self.level_sigmas)}, level_kernels {len(self.level_kernels)}; give one weight for "
                              "each level of the network, and as many widths at least")
        if isinstance(self.box_padding, (tuple, list)):
            raise ConfigError(f"box_padding is {self.box_padding}, a pair, by which a model looks but none is trained; "
                              "give training one number, and the pair to stagepose.load(box_padding=)")
        if not LEAST_PADDING <= self.box_padding <= MOST_PADDING:
            raise ConfigError(f"box_padding is {self.box_padding}, expected 0.5 to 4; {BOX_PADDING} is usual")
        if self.hardest_of < 1:
            raise ConfigError(f"hardest_of is {self.hardest_of}, expected 1 (each augmentation is learnt from) or more")
        if not 0 < self.teacher_share <= 1:
            raise ConfigError(f"teacher_share is {self.teacher_share}, expected more than 0 and at most 1")
        if not 0 <= self.absent <= 1:
            raise ConfigError(f"absent is {self.absent}, expected 0 (absent joints teach nothing) to 1 (they pull as "
                              "labelled ones do)")
        if not 0 <= self.init_std < math.inf:
            raise ConfigError(f"init_std is {self.init_std}, expected a finite number of 0 or more")
        counted = (*self.stage_weights, *self.ohkm, *self.level_weights)
        if not all(0 <= count < math.inf for count in counted) or (self.stage_weights and not any(self.stage_weights)):
            raise ConfigError(f"stage_weights {self.stage_weights}, level_weights {self.level_weights} and ohkm "
                              f"{self.ohkm} must be 0 or more, and some stage must count")
        if not all(0 <= gate <= 1 for gate in self.gates):
            raise ConfigError(f"gates is {self.gates}, expected OKS thresholds between 0 and 1")
        if not all(0 < width < 8 for width in self.coarse):
            raise ConfigError(f"coarse is {self.coarse}, expected factors above 0 and below 8, such as (1.4, 1)")
        self._refuse_other_widths()

    @property
    def size(self) -> Size:
        """(width, height) of the network's input."""
        return self.codec.input_size

    def to_json(self) -> dict[str, Any]:
        """As a run folder keeps it."""
        kernels = {} if isinstance(self.codec, Megvii) else {"level_kernels": UNUSED_KERNELS}
        return {**asdict(self), "codec": self.codec.to_json(), **kernels}

    def codecs(self, stages: int) -> list[list[Codec]]:
        """What targets are drawn with: ``[stage][level]``. The last stage's finest is ``codec`` itself."""
        return [self._levels(factor) for factor in self.coarse or (1.0,) * stages]

    def _levels(self, factor: float) -> list[Codec]:
        """Of a stage whose targets are so many times wider."""
        widths = self.level_kernels if isinstance(self.codec, Megvii) else self.level_sigmas
        return targets.level_codecs(self.codec, len(self.level_weights), [width * factor for width in widths],
                                    shrink=not self.upsample)

    def _refuse_other_widths(self) -> None:
        """:class:`ConfigError` where the last stage learns other targets than ``codec``'s.

        A model file tells the codec alone, and scores are scaled by it: those of wider targets would be too low.
        """
        last = self.coarse[-1] if self.coarse else 1.0
        if self.coarse and 0 < self.stages < row_length(self.network):  # stage by stage, and the last is still to come
            last = 1.0
        drawn = self._levels(last)[0]
        if drawn != self.codec:
            width = "kernel" if isinstance(self.codec, Megvii) else "sigma"
            raise ConfigError(f"coarse is {self.coarse} and level_{width}s {getattr(self, f'level_{width}s')}: the "
                              f"last stage's finest targets have {width} {getattr(drawn, width):g}, but the codec, "
                              f"which scores are scaled by, has {getattr(self.codec, width):g}; end coarse with 1, and "
                              f"begin level_{width}s with the codec's {width}")
        for factor in self.coarse:
            self._levels(factor)  # which refuse what cannot be drawn


def check_fits(config: PoseConfig, network: nn.Module) -> None:
    """:class:`ConfigError` where gates, frozen blocks, or what is said of each stage, do not fit the network.

    So too where what is said of each level does not; that is asked of a network on the meta device, where it costs
    nothing.
    """
    if config.frozen:
        trunk_of(network).check_frozen(config.frozen)
    stages = stages_of(network)
    for name in ("stage_weights", "coarse", "ohkm"):
        said = len(getattr(config, name))
        if said and said != stages:
            raise ConfigError(f"{name} has {said} values, expected {stages}: one for each stage of {config.network}")
    levels = max(cost.count(network, config.size).levels) if next(network.parameters()).is_meta else None
    weights = len(config.level_weights)
    if levels is not None and (weights < levels or (weights > levels and config.level_weights != LEVEL_WEIGHTS)):
        raise ConfigError(f"level_weights has {weights} values, but {config.network} gives heatmaps of {levels} levels "
                          "a stage; give one for each, finest first")
    gated = stages - 1 if isinstance(network, MultiStage) else 0
    if config.gates and len(config.gates) != gated:
        raise ConfigError(f"gates has {len(config.gates)} values, but {config.network} has {gated} later stages to "
                          "gate; give one OKS threshold for each")
    if config.gates and config.codec.name == "megvii":
        raise ConfigError("gates need a codec that is decoded while a network trains: use 'udp-oks', 'udp-dark' or "
                          "'msra'")
