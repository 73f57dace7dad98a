"""Passes that only look leave no trace in those that learn."""

import torch
from torch import nn

from stagepose.training.adversarial import hardest, looking_on


def test_who_was_looked_at_in_bfloat16_still_learns_with_every_weight():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).train()
    images = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with looking_on(model):
            assert not model.training and not model(images).requires_grad
        assert model.training and not model[1].running_mean.any()
        model(images).float().square().mean().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_the_hardest_look_is_the_first_of_equals_and_nan_shows():
    losses = torch.tensor([[1.0, 2.0, 0.0], [1.0, 3.0, torch.nan], [0.0, 1.0, 5.0]])
    assert hardest(losses).tolist() == [0, 1, 1]
