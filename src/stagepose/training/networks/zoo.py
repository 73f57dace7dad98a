"""The pose networks by name: one literal function each. K keypoints; every input side divisible by 32."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from stagepose.errors import ConfigError
from stagepose.training.networks.blocks import BasicBlock, Bottleneck
from stagepose.training.networks.efficientnet_lite import EfficientNetLite
from stagepose.training.networks.init import gaussian_
from stagepose.training.networks.multistage import MultiStage, link
from stagepose.training.networks.resnet import ResNetStem, ResNetTrunk, SlimStem
from stagepose.training.networks.ustage import UStage


def lite0_u(keypoints: int) -> MultiStage:
    """One U-stage of width 96 on EfficientNet-Lite0: made for CPUs, meant to start from ImageNet weights."""
    trunk = EfficientNetLite(0)
    net = MultiStage(nn.Identity(), [UStage(trunk, trunk.out_channels, width=96, keypoints=keypoints)])
    gaussian_(net)
    return net


def slim_u(keypoints: int) -> MultiStage:
    """One U-stage of width 64 on a shallow dense ResNet (basic blocks 1-2-2-2, widths 64-96-160-256)."""
    trunk = ResNetTrunk(block=BasicBlock, blocks=(1, 2, 2, 2), widths=(64, 96, 160, 256))
    net = MultiStage(SlimStem(64), [UStage(trunk, trunk.out_channels, width=64, keypoints=keypoints)])
    gaussian_(net)
    return net


def multistage_res50(keypoints: int, stages: int = 1) -> MultiStage:
    """The report's network on ResNet-50 trunks, ``stages`` in a row, pyramids 256 wide."""

    def stage() -> UStage:
        trunk = ResNetTrunk(block=Bottleneck, blocks=(3, 4, 6, 3))
        return UStage(trunk, trunk.out_channels, width=256, keypoints=keypoints)

    net = MultiStage(ResNetStem(64), [stage() for _ in range(stages)], [link(256) for _ in range(stages - 1)])
    gaussian_(net)
    return net


NETWORKS: dict[str, Callable[[int], MultiStage]] = {
    "lite0-u": lite0_u,
    "slim-u": slim_u,
    "1xres50": multistage_res50,
    "2xres50": lambda keypoints: multistage_res50(keypoints, 2),
    "3xres50": lambda keypoints: multistage_res50(keypoints, 3),
    "4xres50": lambda keypoints: multistage_res50(keypoints, 4),
}


def build(name: str, keypoints: int) -> MultiStage:
    """A fresh network by name, from a Gaussian start; :class:`ConfigError` lists the names."""
    if name not in NETWORKS:
        raise ConfigError(f"no network named {name!r}; the networks are {sorted(NETWORKS)}")
    return NETWORKS[name](keypoints)


def trunk_of(network: nn.Module) -> EfficientNetLite:
    """The network's EfficientNet-Lite trunk; :class:`ConfigError` where it has another: only these have weights."""
    trunk = next((m for m in network.modules() if isinstance(m, EfficientNetLite)), None)
    if trunk is None:
        raise ConfigError("only EfficientNet-Lite trunks come with ImageNet weights to start from or to keep frozen; "
                          "use network 'lite0-u', or imagenet False and frozen 0")
    return trunk
