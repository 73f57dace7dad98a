"""What the heatmap loss promises, on every level of every stage."""

from typing import get_args

import numpy as np
import pytest
import torch

from stagepose.heatmaps import Msra, UdpDark
from stagepose.training import losses as heatmap_losses
from stagepose.training.losses import HeatmapLoss, absent_losses, hardest_joints, kl_loss, mse_loss, stage_losses
from stagepose.training.targets import encode, level_codecs

KINDS = ["kl", "mse"]
WEIGHTS = (1.0, 0.25, 0.25, 0.25)
PEOPLE, JOINTS = 3, 5


@pytest.fixture
def batch():
    """Outputs of two stages, targets of four levels, labels: the last joint nowhere, the last person not at all."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    labelled = np.ones((PEOPLE, JOINTS), bool)
    labelled[:, -1] = labelled[-1] = False
    codecs = level_codecs(UdpDark(input_size=(64, 64)), 4, (1.5, 1.2, 1.0, 0.8))
    targets = [encode(c, rng.uniform(4, 60, (PEOPLE, JOINTS, 2)), labelled) for c in codecs]
    outputs = [[torch.randn_like(t, requires_grad=True) for t in targets] for _ in range(2)]
    return outputs, targets, torch.from_numpy(labelled).float()


def deep_loss(*given, stage_weights=(1.0, 1.0), **settings):
    """Of all stages together."""
    return sum(w * loss for w, loss in zip(stage_weights, stage_losses(*given, **settings), strict=False))


def gradients(loss, outputs):
    return torch.autograd.grad(loss, [m for stage in outputs for m in stage], allow_unused=True)


def test_every_kind_can_be_named():
    assert set(get_args(HeatmapLoss)) == set(heatmap_losses.KINDS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_arguments_mean_what_they_always_meant(batch, kind):
    outputs, targets, labelled = batch
    single = (lambda m, t: kl_loss(m, t)) if kind == "kl" else (lambda m, t: mse_loss(m, t, labelled))
    by_hand = sum(w * single(m, t) for stage in outputs for m, t, w in zip(stage, targets, WEIGHTS, strict=True))
    assert torch.allclose(deep_loss(outputs, targets, labelled, kind=kind, level_weights=WEIGHTS), by_hand)


@pytest.mark.parametrize("kind", KINDS)
def test_all_joints_are_the_hardest_of_so_many(batch, kind):
    outputs, targets, labelled = batch
    plain = deep_loss(outputs, targets, labelled, kind=kind, level_weights=WEIGHTS)
    for count in (JOINTS, 8):
        mined = deep_loss(outputs, targets, labelled, kind=kind, level_weights=WEIGHTS, ohkm=count)
        assert torch.allclose(mined, plain)
    hard = deep_loss(outputs, targets, labelled, kind=kind, level_weights=WEIGHTS, ohkm=2)
    last = deep_loss(outputs, targets, labelled, kind=kind, level_weights=WEIGHTS, ohkm=(0, 2))
    assert plain < last < hard


def test_hardest_joints_are_labelled_ones():
    losses = torch.tensor([[5.0, 1, 4, 3], [9, 2, 1, 8]])
    labelled = torch.tensor([[0.0, 1, 1, 1], [0, 1, 0, 0]])
    assert hardest_joints(losses, labelled, 2).tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]
    assert hardest_joints(losses, torch.zeros(2, 4), 2).sum() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ohkm", [0, 2])
def test_nobody_labelled_costs_nothing(batch, kind, ohkm):
    outputs, targets, _ = batch
    for wanted in (targets, [torch.zeros_like(t) for t in targets]):
        loss = deep_loss(outputs, wanted, torch.zeros(PEOPLE, JOINTS), kind=kind, level_weights=WEIGHTS, ohkm=ohkm)
        assert loss == 0
        assert all(not g.any() for g in gradients(loss, outputs))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["stage_weights", "sample_weights"])
def test_a_stage_that_counts_nobody_has_no_gradient(batch, kind, how):
    outputs, targets, labelled = batch
    given = {"stage_weights": (1.0, 0.0)} if how == "stage_weights" else {
        "sample_weights": torch.tensor([[1.0, 0], [1, 0], [1, 0]])}
    loss = deep_loss(outputs, targets, labelled, kind=kind, level_weights=WEIGHTS, ohkm=3, **given)
    found = gradients(loss, outputs)
    assert all(g.any() for g in found[:4]) and not any(g.any() for g in found[4:])
    first = deep_loss(outputs[:1], targets, labelled, kind=kind, level_weights=WEIGHTS, ohkm=3)
    assert torch.allclose(loss, first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_pulls_the_same_whoever_else_is_left_out(batch, kind):
    outputs, targets, labelled = batch
    settings = {"kind": kind, "level_weights": WEIGHTS}
    whole = gradients(deep_loss(outputs, targets, labelled, **settings), outputs)
    ones = gradients(deep_loss(outputs, targets, labelled, sample_weights=torch.ones(PEOPLE), **settings), outputs)
    half = torch.tensor([1.0, 0, 1])
    part = gradients(deep_loss(outputs, targets, labelled, sample_weights=half, **settings), outputs)
    for all_, same, some in zip(whole, ones, part, strict=True):
        assert torch.equal(all_, same) and torch.equal(all_[0], some[0]) and not some[1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_upsampling_leaves_the_finest_level_alone(batch, kind):
    outputs, targets, labelled = batch
    finest = {"kind": kind, "level_weights": (1.0, 0.0, 0.0, 0.0)}
    large = [targets[0]] * 4
    assert torch.allclose(deep_loss(outputs, large, labelled, upsample=True, **finest),
                          deep_loss(outputs, targets, labelled, **finest))
    whole = deep_loss(outputs, large, labelled, kind=kind, level_weights=WEIGHTS, upsample=True)
    assert all(g.any() for g in gradients(whole, outputs))
    with pytest.raises(ValueError, match="see upsample"):
        deep_loss(outputs, targets, labelled, kind=kind, level_weights=WEIGHTS, upsample=True)


def test_upsampled_peaks_lie_where_the_unbiased_codec_puts_them():
    """A joint in a corner is at the corner of every level's grid."""
    codecs = level_codecs(UdpDark(input_size=(64, 64)), 2, (1.0, 0.5))
    corner, labelled = np.array([[[63.0, 63.0]]]), np.ones((1, 1), bool)
    fine, coarse = (encode(c, corner, labelled) for c in codecs)
    wrong = torch.roll(coarse, 1, -1)
    loss = [stage_losses([[fine * 0, m]], [fine, fine], torch.ones(1, 1), kind="mse", level_weights=(0.0, 1.0),
                         upsample=True)[0] for m in (coarse, wrong)]
    assert loss[0] < loss[1] / 5


def test_each_stage_may_have_targets_of_its_own(batch):
    outputs, targets, labelled = batch
    wide = [t.sqrt() for t in targets]
    settings = {"kind": "mse", "level_weights": WEIGHTS}
    both = deep_loss(outputs, [wide, targets], labelled, **settings)
    apart = deep_loss(outputs[:1], wide, labelled, **settings) + deep_loss(outputs[1:], targets, labelled, **settings)
    assert torch.allclose(both, apart)
    assert torch.allclose(deep_loss(outputs, [targets, targets], labelled, **settings),
                          deep_loss(outputs, targets, labelled, **settings))


def test_a_stage_may_have_fewer_levels(batch):
    outputs, targets, labelled = batch
    settings = {"kind": "kl", "level_weights": WEIGHTS}
    losses = stage_losses([outputs[0], outputs[1][:1]], targets, labelled, **settings)
    assert torch.allclose(losses[1], kl_loss(outputs[1][0], targets[0]))


def test_mistakes_are_named(batch):
    outputs, targets, labelled = batch
    for wrong, match in (({"level_weights": (1.0,)}, "4 levels"),
                         ({"sample_weights": torch.ones(2)}, "expected"), ({"ohkm": (1, 2, 3)}, "ohkm for 3")):
        with pytest.raises(ValueError, match=match):
            stage_losses(outputs, targets, labelled, **{"kind": "kl", "level_weights": WEIGHTS, **wrong})


def test_a_joint_on_the_border_is_not_taught_to_be_nowhere():
    """The msra codec rounds it off a coarse level's map: no target there is no lesson, for either loss."""
    points, labelled = np.array([[[190.0, 100], [90, 100]]]), np.ones((1, 2), bool)
    target = encode(level_codecs(Msra(input_size=(192, 256)), 4, (1.0,) * 4)[-1], points, labelled)
    assert target[0, 0].max() == 0 < target[0, 1].max()
    outputs, known = [[torch.ones_like(target, requires_grad=True)]], torch.ones(1, 2)
    for kind in KINDS:
        loss = deep_loss(outputs, [target], known, kind=kind, level_weights=WEIGHTS)
        gradient, = gradients(loss, outputs)
        assert not gradient[0, 0].any() and gradient[0, 1].any()
    assert mse_loss(outputs[0][0], target, known) == mse_loss(outputs[0][0][:, 1:], target[:, 1:], known[:, 1:])


@pytest.mark.parametrize("kind", KINDS)
def test_absent_joints_are_taught_to_say_nothing(batch, kind):
    outputs, targets, labelled = batch
    named = torch.ones(PEOPLE, JOINTS)
    named[:, 0] = 0  # the set never labels it: what cannot be known is not taught
    losses = absent_losses(outputs, [targets] * 2, named, labelled, kind=kind)
    found = gradients(sum(losses), outputs)
    finest, coarser = (found[0], found[4]), (*found[1:4], *found[5:])
    absent = (named > 0) & (targets[0].flatten(2).amax(-1) <= 0)
    assert absent.any() and all(torch.equal(g.flatten(2).abs().amax(-1) > 0, absent) for g in finest)
    assert not any(g is not None and g.any() for g in coarser)
    silent = [[torch.zeros_like(m) for m in stage] for stage in outputs]
    assert all(abs(float(loss)) < 1e-5 for loss in absent_losses(silent, [targets] * 2, named, labelled, kind=kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_that_counts_nobody_learns_nothing_of_absence(batch, kind):
    outputs, targets, labelled = batch
    counts = torch.tensor([[1.0, 0], [1, 0], [1, 0]])
    losses = absent_losses(outputs, [targets] * 2, torch.ones(PEOPLE, JOINTS), labelled, kind=kind,
                           sample_weights=counts)
    found = gradients(sum(losses), outputs)
    assert found[0].any() and not found[4].any()
