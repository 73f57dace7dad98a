"""Every network by name: shapes on all levels of all stages, gradients everywhere, a start near uniform."""

import pytest
import torch

from stagepose.errors import ConfigError
from stagepose.training.networks.blocks import BasicBlock
from stagepose.training.networks.efficientnet_lite import EfficientNetLite
from stagepose.training.networks.resnet import ResNetTrunk
from stagepose.training.networks.zoo import NETWORKS, build


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in ("3xres50", "4xres50")])
def test_heatmaps_on_all_levels_of_all_stages(name):
    net = build(name, 5).eval()
    with torch.inference_mode():
        out = net(torch.zeros(2, 3, 128, 96))
    assert len(out) == (2 if name == "2xres50" else 1)
    for stage in out:
        assert [tuple(m.shape) for m in stage] == [(2, 5, 128 // s, 96 // s) for s in (4, 8, 16, 32)]
        assert max(float(m.abs().max()) for m in stage) < 1


def test_every_parameter_learns():
    net = build("slim-u", 3)
    out = net(torch.randn(2, 3, 64, 64))
    sum((m * torch.randn_like(m)).sum() for stage in out for m in stage).backward()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_small_networks_keep_their_promise():
    """At most 6 M parameters for the default; three res50 stages are about 3 x 29 M."""
    assert sum(p.numel() for p in build("lite0-u", 17).parameters()) < 6e6
    assert sum(p.numel() for p in build("slim-u", 17).parameters()) < 6e6


def test_same_padding_is_tensorflows():
    trunk = EfficientNetLite(0).eval()
    assert trunk.out_channels == (24, 40, 112, 320)
    conv = trunk._conv_stem
    x = torch.zeros(1, 3, 8, 8)
    x[0, :, 7, 7] = 1  # the last pixel is the middle tap of the last window: one zero below and right, none above
    out = conv(x)[0, :, 3, 3]
    assert torch.allclose(out, conv.weight[:, :, 1, 1].sum(1), atol=1e-6)


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="lite0-u"):
        build("resnet9000", 17)
    with pytest.raises(ValueError, match="four groups"):
        ResNetTrunk(block=BasicBlock, blocks=(1, 2))
