"""Decoding and OKS on the device are the twins of the ground floor's."""

import numpy as np
import pytest
import torch

from stagepose.errors import ConfigError
from stagepose.heatmaps import Megvii, Msra, UdpDark, UdpOks
from stagepose.oks import oks_of_person
from stagepose.skeleton import COCO_17
from stagepose.training import decoding

SIGMAS = (0.026, 0.035, 0.079, 0.107, 0.089)


@pytest.mark.parametrize("codec", [
    UdpDark(input_size=(192, 256)), UdpDark(input_size=(64, 96), sigma=1.5), UdpOks(input_size=(192, 256)),
    Msra(input_size=(96, 128))])
def test_the_same_points_as_the_ground_floor(codec):
    rng = np.random.default_rng(0)
    size = np.array(codec.input_size)
    points = rng.uniform(-4, size + 4, (40, 5, 2))  # some outside, many near the border, where no blur is used
    maps = codec.encode(points, np.ones((40, 5), dtype=bool))
    maps[::3] += rng.uniform(0, 0.02, maps[::3].shape).astype(np.float32)  # ripples
    expected, heights = codec.decode(maps, SIGMAS)
    found, scores = decoding.decode(codec, torch.from_numpy(maps), SIGMAS)
    clean = np.arange(40) % 3 > 0
    assert np.abs(found.numpy() - expected)[clean].max() < 1e-5 * size.max()
    assert np.abs(found.numpy() - expected).max() < 2e-3  # a step on ripples is ill-conditioned in 32 bits
    assert np.abs(scores.numpy() - heights).max() < 1e-6


def test_a_codec_without_a_twin_is_named():
    with pytest.raises(ConfigError, match=r"'megvii'.*udp-dark"):
        decoding.decode(Megvii(input_size=(64, 64)), torch.zeros(1, 1, 16, 16), SIGMAS[:1])


def test_the_same_similarity_as_the_ground_floor():
    rng = np.random.default_rng(1)
    truth = np.dstack([rng.uniform(0, 64, (20, 17, 2)), rng.integers(0, 3, (20, 17))])
    truth[0, :, 2] = 0
    found, areas = truth[..., :2] + rng.normal(0, 3, (20, 17, 2)), rng.uniform(100, 2000, 20)
    expected = oks_of_person(truth, areas, np.zeros((20, 4)), found, np.array(COCO_17.sigmas))
    similar = decoding.oks(torch.from_numpy(found).float(), truth, areas, COCO_17.sigmas).numpy()
    assert np.abs(similar - expected)[1:].max() < 1e-5
    assert similar[0] == 1  # nobody is labelled: nothing is left to be learnt
