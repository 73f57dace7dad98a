"""The pose networks by name: literal constructor calls. K keypoints; every input side divisible by 32.

Three families: rows of U-stages (the report's, narrow ones for CPUs, the successor's), and the baselines that the
report discusses. ``stagepose networks`` prints them all with what they cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import nn

from stagepose.errors import ConfigError
from stagepose.names import suggestion
from stagepose.training.networks.blocks import BasicBlock, Bottleneck, HalfBottleneck, InceptionBottleneck
from stagepose.training.networks.cpn import CPN
from stagepose.training.networks.efficientnet_lite import EfficientNetLite
from stagepose.training.networks.hourglass import StackedHourglass
from stagepose.training.networks.init import gaussian_, zero_heads_, zero_residuals_
from stagepose.training.networks.multistage import Bridge, MultiStage, link
from stagepose.training.networks.resnet import ResNetStem, ResNetTrunk, SlimStem
from stagepose.training.networks.simple import SimpleBaseline
from stagepose.training.networks.ustage import UStage

# Residual blocks of conv2..conv5 (He et al. 2016, table 1).
RES50, RES101, RES152 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
# The report's spatial ResNet-101. It says "same FLOPs", but 16 blocks in conv4 are 7.10 GMACs of trunk at 256x192
# against ResNet-101's 7.52; with 18 both are equal to the last multiplication.
SPATIAL101, SPATIAL101_EQUAL = (4, 8, 16, 3), (4, 8, 18, 3)
W300M = (32, 48, 96, 160)  # of the narrowest trunk


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """How stages are joined, beyond the report's 1x1 on the finest feature; see :class:`.multistage.MultiStage`."""

    concat_heatmaps: bool = False
    residual: bool = False
    aggregate: bool = False


def in_a_row(stem: nn.Module, stages: Sequence[UStage], options: StageOptions, *, door: int = 64) -> MultiStage:
    """Stages joined as ``options`` say, from a Gaussian start; ``door`` channels enter every later stage."""
    extra = stages[0].keypoints if options.concat_heatmaps else 0
    links = [link(stage.width + extra, door) for stage in stages[:-1]]
    bridges = [Bridge(a.trunk_channels, a.width, b.trunk_channels) for a, b in pairwise(stages) if options.aggregate]
    net = MultiStage(stem, stages, links, bridges=bridges, concat_heatmaps=options.concat_heatmaps,
                     residual=options.residual)
    gaussian_(net)
    if options.residual:
        for stage in stages[1:]:
            zero_heads_(stage)
    return net


def res_stage(keypoints: int, blocks: Sequence[int], *, inception: bool = False, late: bool = False) -> UStage:
    """One stage of the report: a bottleneck ResNet trunk and a pyramid 256 wide."""
    trunk = ResNetTrunk(block=InceptionBottleneck if inception else Bottleneck, blocks=blocks)
    return UStage(trunk, trunk.out_channels, width=256, keypoints=keypoints, late=late)


def slim_stage(keypoints: int, *, widths: Sequence[int], blocks: Sequence[int] = (1, 2, 2, 2), width: int = 64,
               door: int = 64) -> UStage:
    """One narrow, shallow stage of dense basic blocks: CPUs run dense convolutions at their best."""
    trunk = ResNetTrunk(block=BasicBlock, blocks=blocks, widths=widths, in_channels=door)
    return UStage(trunk, trunk.out_channels, width=width, keypoints=keypoints)


def multistage_res(keypoints: int, options: StageOptions = StageOptions(), *, blocks: Sequence[int] = RES50,
                   stages: int = 1, inception: bool = False) -> MultiStage:
    """The report's network, ``stages`` in a row on trunks of ``blocks``.

    About 2 GMACs a stage more than its successor of the same depth, for the 3x3 to 256 channels in every head.
    """
    stem = ResNetStem(64)
    return in_a_row(stem, [res_stage(keypoints, blocks, inception=inception) for _ in range(stages)], options)


def mspn50(keypoints: int, options: StageOptions = StageOptions(aggregate=True), *, stages: int = 1) -> MultiStage:
    """The report's published successor on ResNet-50: late up path, late heads, aggregation across stages.

    Built from the paper's description. Published: 25.1 / 56.9 / 88.6 / 120.3 M parameters and 5.1 / 11.3 / 17.5 /
    23.6 GMACs at 256x192 for 1 to 4 stages; ours lack the biases that its released convolutions carry beside their
    batch norms, 0.03 M a stage, as mmpose's do: 25.11 / 56.80 / 88.49 / 120.18 M, the same numbers.
    """
    stem = ResNetStem(64)
    return in_a_row(stem, [res_stage(keypoints, RES50, late=True) for _ in range(stages)], options)


def lite_u(keypoints: int, options: StageOptions = StageOptions(), *, variant: int = 0, stages: int = 1,
           width: int = 96, refined: bool = False) -> MultiStage:
    """A U-stage on EfficientNet-Lite, meant to start from ImageNet weights; of width 96 made for CPUs.

    Later stages are those of ``u-300m``: the trunk of the first sees pixels, theirs see its features. ``refined``:
    residual blocks after every merge, for the trunk has but three blocks where its maps are fine; they begin as the
    identity, so that weights without them go on where they were.
    """
    trunk = EfficientNetLite(variant)
    first = UStage(trunk, trunk.out_channels, width=width, keypoints=keypoints,
                   refine=_refinement(width) if refined else ())
    later = [slim_stage(keypoints, widths=W300M, width=40, door=32) for _ in range(stages - 1)]
    net = in_a_row(nn.Identity(), [first, *later], options, door=32)
    if refined:
        zero_residuals_(first.up)
    return net


def _refinement(width: int) -> list[nn.Module]:
    """Of P2..P5: the finest level, where a 3x3 costs most, has a bottleneck."""
    def block() -> nn.Module:
        return BasicBlock(width, width)

    return [HalfBottleneck(width, width // 2), block(), nn.Sequential(block(), block()), block()]


def slim_u(keypoints: int, options: StageOptions = StageOptions(), *, stages: int = 1) -> MultiStage:
    """U-stages of width 64 on shallow dense ResNets (basic blocks 1-2-2-2, widths 64-96-160-256): 1 GMAC each."""
    made = [slim_stage(keypoints, widths=(64, 96, 160, 256)) for _ in range(stages)]
    return in_a_row(SlimStem(64), made, options)


def u_300m(keypoints: int, options: StageOptions = StageOptions(), *, stages: int = 1) -> MultiStage:
    """About 0.3 GMACs a stage at 256x192."""
    made = [slim_stage(keypoints, widths=W300M, width=40, door=32) for _ in range(stages)]
    return in_a_row(SlimStem(32), made, options, door=32)


def u_3g(keypoints: int, options: StageOptions = StageOptions(), *, stages: int = 1) -> MultiStage:
    """About 3 GMACs a stage at 256x192."""
    made = [slim_stage(keypoints, widths=(64, 128, 256, 448), blocks=(2, 3, 4, 2), width=128) for _ in range(stages)]
    return in_a_row(SlimStem(64), made, options)


def hourglass(keypoints: int, *, stacks: int) -> StackedHourglass:
    """``stacks`` hourglasses of 256 features."""
    net = StackedHourglass(keypoints, stacks=stacks)
    gaussian_(net)
    return net


def cpn(keypoints: int, *, blocks: Sequence[int]) -> CPN:
    """GlobalNet and RefineNet, 256 wide."""
    net = CPN(ResNetStem(64), res_stage(keypoints, blocks, late=True), keypoints)
    gaussian_(net)
    return net


def simple(keypoints: int, *, blocks: Sequence[int]) -> SimpleBaseline:
    """A ResNet and three transposed convolutions of 256 channels."""
    trunk = ResNetTrunk(block=Bottleneck, blocks=blocks)
    net = SimpleBaseline(ResNetStem(64), trunk, trunk.out_channels[-1], keypoints=keypoints)
    gaussian_(net)
    return net


Fixed = Callable[[int], nn.Module]
Row = Callable[..., MultiStage]  # (keypoints, options, *, stages), the last where not all are wanted

SINGLE: dict[str, Fixed] = {  # one U-stage
    "u-300m": u_300m,
    "lite0-u": lite_u,
    "lite0-u1g": partial(lite_u, refined=True),
    "lite1-u": partial(lite_u, variant=1),
    "lite2-u": partial(lite_u, variant=2),
    "lite2-u256": partial(lite_u, variant=2, width=256),
    "slim-u": slim_u,
    "u-3g": u_3g,
    "1xres50": multistage_res,
    "1xres101": partial(multistage_res, blocks=RES101),
    "1xres101-spatial": partial(multistage_res, blocks=SPATIAL101),
    "1xres101-spatial18": partial(multistage_res, blocks=SPATIAL101_EQUAL),
    "1xresinc101": partial(multistage_res, blocks=RES101, inception=True),
    "1xres152": partial(multistage_res, blocks=RES152),
}

ROWS: dict[str, Row] = {  # U-stages in a row, joined as StageOptions say
    "2xu-300m": partial(u_300m, stages=2),
    "3xu-300m": partial(u_300m, stages=3),
    "4xu-300m": partial(u_300m, stages=4),
    "2xlite0-u": partial(lite_u, stages=2),
    "3xlite0-u": partial(lite_u, stages=3),
    "2xslim-u": partial(slim_u, stages=2),
    "3xslim-u": partial(slim_u, stages=3),
    "2xu-3g": partial(u_3g, stages=2),
    "2xres50": partial(multistage_res, stages=2),
    "3xres50": partial(multistage_res, stages=3),
    "4xres50": partial(multistage_res, stages=4),
    "2xres101": partial(multistage_res, blocks=RES101, stages=2),
    "2xres101-spatial": partial(multistage_res, blocks=SPATIAL101, stages=2),
    "2xresinc101": partial(multistage_res, blocks=RES101, inception=True, stages=2),
}

SUCCESSOR: dict[str, Fixed] = {
    "1xmspn50": mspn50,
    "2xmspn50": partial(mspn50, stages=2),
    "3xmspn50": partial(mspn50, stages=3),
    "4xmspn50": partial(mspn50, stages=4),
}

BASELINES: dict[str, Fixed] = {
    "hourglass-1": partial(hourglass, stacks=1),
    "hourglass-2": partial(hourglass, stacks=2),
    "hourglass-4": partial(hourglass, stacks=4),
    "hourglass-8": partial(hourglass, stacks=8),
    "cpn-res50": partial(cpn, blocks=RES50),
    "cpn-res101": partial(cpn, blocks=RES101),
    "simple-res50": partial(simple, blocks=RES50),
    "simple-res101": partial(simple, blocks=RES101),
    "simple-res152": partial(simple, blocks=RES152),
}

NETWORKS: tuple[str, ...] = (*SINGLE, *ROWS, *SUCCESSOR, *BASELINES)


def build(name: str, keypoints: int, options: StageOptions = StageOptions(), *, stages: int = 0) -> nn.Module:
    """A fresh network by name, from a Gaussian start; :class:`ConfigError` says what an unknown name is near to.

    ``options`` and ``stages`` (how many of a row, 0 for as many as its name says) are for :data:`ROWS`;
    :class:`ConfigError` where they would mean nothing.
    """
    check_name(name)
    if keypoints < 1:
        raise ConfigError(f"keypoints is {keypoints}; a network finds at least one")
    if stages < 0 or (stages and name not in ROWS):
        raise ConfigError(f"stages is {stages} for network {name!r}; only a row can have another number of them, 1 or "
                          f"more: {', '.join(ROWS)}")
    if name in ROWS:
        return ROWS[name](keypoints, options, stages=stages) if stages else ROWS[name](keypoints, options)
    if options != StageOptions():
        raise ConfigError(f"network {name!r} has no stages to join, or joins them in its own way, so {options} means "
                          f"nothing; leave it out, or take one of {', '.join(ROWS)}")
    return {**SINGLE, **SUCCESSOR, **BASELINES}[name](keypoints)


def check_name(name: str) -> None:
    """:class:`ConfigError` with the nearest names when there is no network ``name``."""
    if name not in NETWORKS:
        raise ConfigError(f"no network named {name!r}; 'stagepose networks' lists them all"
                          + suggestion(name.lower(), NETWORKS, count=3, cutoff=0.4))


def row_length(name: str) -> int:
    """How many stages the row ``name`` has; :class:`ConfigError` where the network is no row."""
    check_name(name)
    if name not in ROWS:
        raise ConfigError(f"network {name!r} is not a row of stages; use one of {', '.join(ROWS)}")
    with torch.device("meta"):  # asked of the network: its name need not say
        return stages_of(ROWS[name](1))


def stages_of(network: nn.Module) -> int:
    """How many stages' heatmaps a network puts out: what its ``stage_count`` says, one where it has none."""
    return int(getattr(network, "stage_count", 1))


def trunk_of(network: nn.Module) -> EfficientNetLite:
    """The network's EfficientNet-Lite trunk; :class:`ConfigError` where it has another: only these have weights."""
    trunk = next((m for m in network.modules() if isinstance(m, EfficientNetLite)), None)
    if trunk is None:
        raise ConfigError("only EfficientNet-Lite trunks come with ImageNet weights to start from or to keep frozen; "
                          "use network 'lite0-u', or imagenet False and frozen 0")
    return trunk
