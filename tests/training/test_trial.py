"""A network is tried before it is trained: one that ships passes, and what another lacks is told with the remedy."""

import pytest
import torch
from torch import Tensor, nn

from stagepose.cli import main
from stagepose.training.networks import zoo


def add(monkeypatch: pytest.MonkeyPatch, name: str, make) -> None:
    monkeypatch.setitem(zoo.BASELINES, name, make)
    monkeypatch.setattr(zoo, "NETWORKS", (*zoo.NETWORKS, name))


def test_a_network_that_ships_passes(capsys):
    assert main(["networks", "u-300m", "--check", "--keypoints", "3", "--threads", "1"]) == 0
    name, *lines = capsys.readouterr().out.splitlines()
    assert name == "u-300m" and len(lines) == 7 and all(line.startswith("  ok  ") for line in lines)
    assert "[[16x24, 8x12, 4x6, 2x3]], strides 4, 8, 16, 32" in lines[0] and "recipe: for_cpus, 1,000,000" in lines[-1]


class Broken(nn.Module):
    """Begins far from zero, has a part that nothing depends on, and computes what ONNX cannot write."""

    def __init__(self, keypoints: int) -> None:
        super().__init__()
        self.last, self.idle = nn.Conv2d(3, keypoints, 4, 4), nn.Linear(2, 2)

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        return [[torch.special.i0(20 * self.last(images))]]


def test_what_a_network_lacks_is_told_with_the_remedy(monkeypatch, capsys):
    add(monkeypatch, "broken", Broken)
    assert main(["networks", "broken", "--check", "--keypoints", "2", "--threads", "1"]) == 1
    _, outputs, gradients, start, learning, export, recipe = capsys.readouterr().out.splitlines()
    assert outputs.startswith("  ok  ") and recipe.startswith("  ok  ")
    assert gradients.startswith("  no  ") and "idle.weight; leave out" in gradients
    assert start.startswith("  no  ") and "call the last layer of a head 'out'" in start
    assert "learns 4 pictures by heart: loss " in learning
    assert export.startswith("  no  ") and "aten::i0" in export


class Coarse(nn.Module):
    """Heatmaps half as large as they should be."""

    def __init__(self, keypoints: int) -> None:
        super().__init__()
        self.out = nn.Conv2d(3, keypoints, 8, 8)

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        return [[self.out(images)]]


def test_wrong_strides_end_the_trial(monkeypatch, capsys):
    add(monkeypatch, "coarse", Coarse)
    assert main(["networks", "coarse", "--check", "--keypoints", "2"]) == 1
    _, outputs, recipe = capsys.readouterr().out.splitlines()
    assert outputs.startswith("  no  ") and "[[8x12]]; each level must be (N, 2, H / s, W / s)" in outputs
    assert recipe.startswith("  ok  recipe")
    assert main(["networks", "--check"]) == 2
    assert "stagepose networks NAME --check" in capsys.readouterr().err
