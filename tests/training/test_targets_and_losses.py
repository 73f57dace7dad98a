"""Targets on the device are those of the ground floor; losses count labelled joints alone."""

import numpy as np
import pytest
import torch

from stagepose.heatmaps import Megvii, Msra, UdpDark
from stagepose.training.losses import kl_loss, mse_loss, stage_losses
from stagepose.training.targets import encode, level_codecs

SIZE = (96, 128)


@pytest.mark.parametrize("codec", [UdpDark(input_size=SIZE), Msra(input_size=SIZE),
                                   *(Megvii(input_size=SIZE, kernel=kernel) for kernel in (3, 5, 7, 9, 11, 15, 31))],
                         ids=lambda c: f"{c.name}{getattr(c, 'kernel', '')}")
def test_targets_are_the_twin_of_encode(codec):
    rng = np.random.default_rng(0)
    points = rng.uniform(-20, 140, (5, 17, 2))
    labelled = rng.random((5, 17)) < 0.8
    for level in level_codecs(codec):
        ours, theirs = encode(level, points, labelled), level.encode(points, labelled)
        assert np.abs(ours.numpy() - theirs).max() < 1e-5


def test_kl_is_least_at_the_target_and_ignores_the_unlabelled():
    target = encode(UdpDark(input_size=SIZE), np.array([[[40.0, 50], [60, 70]]]), np.array([[True, False]]))
    perfect = torch.log(target + 1e-8)
    assert kl_loss(perfect, target) < kl_loss(torch.zeros_like(target), target)
    wrong = perfect.clone()
    wrong[:, 1] = torch.randn_like(wrong[:, 1])
    assert torch.isclose(kl_loss(wrong, target), kl_loss(perfect, target))
    nobody = torch.zeros_like(target)
    assert kl_loss(perfect, nobody) == 0


def test_mse_ignores_the_unlabelled():
    target, labelled = torch.zeros(2, 3, 8, 6), torch.tensor([[1.0, 1, 0], [0, 0, 0]])
    target[..., 3, 2] = 1
    maps = target.clone()
    maps[0, 2] = 9
    maps[1] = 9
    assert mse_loss(maps, target, labelled) == 0
    maps[0, 0] += 1
    assert mse_loss(maps, target, labelled) == pytest.approx(0.5)


def test_every_level_of_every_stage_counts():
    target = [torch.ones(1, 2, s, s) for s in (8, 4)]
    outputs = [[t + 1 for t in target], [t + 2 for t in target]]
    losses = stage_losses(outputs, target, torch.ones(1, 2), kind="mse", level_weights=(1.0, 0.5))
    assert losses == pytest.approx([1 + 0.5, 4 + 2])
