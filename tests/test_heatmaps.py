"""encode and decode are inverses as far as each codec can be; the flip test has the bias it is known to have."""

from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagepose.errors import ConfigError
from stagepose.heatmaps import CODECS, PERSON, STRIDE, Megvii, Msra, UdpDark, UdpOks, codec_from_json
from stagepose.oks import keypoint_similarity
from stagepose.skeleton import COCO_17

SIZE = (192, 256)
ALL = [Msra(input_size=SIZE), Megvii(input_size=SIZE), UdpDark(input_size=SIZE), UdpOks(input_size=SIZE)]


def some_points(count, margin, seed=0):
    low, high = np.array([margin, margin]), np.array(SIZE) - 1.0 - margin
    return np.random.default_rng(seed).uniform(low, high, (count // 17 + 1, 17, 2))


def decoded(codec, maps):
    """Points and scores, with COCO's sigmas in turn."""
    return codec.decode(maps, [COCO_17.sigmas[k % 17] for k in range(maps.shape[1])])


def everywhere(points):
    return np.ones(points.shape[:2], bool)


@settings(max_examples=50, deadline=None)
@given(st.floats(25, 166), st.floats(25, 230), st.sampled_from([1.0, 1.5, 2.0, 3.0]),
       st.sampled_from([UdpDark, UdpOks]))
def test_unbiased_codecs_are_exact_inside(x, y, sigma, kind):
    codec = kind(input_size=SIZE, sigma=sigma)
    found, score = decoded(codec, codec.encode(np.array([[[x, y]]]), np.ones((1, 1), bool)))
    assert np.abs(found - [x, y]).max() < 0.1
    lowest = np.exp(-0.25 / sigma**2)  # of a peak halfway between four pixels
    assert lowest - 1e-6 < score[0, 0] <= 1


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 191), st.floats(0, 255), st.sampled_from([UdpDark, UdpOks]))
def test_unbiased_codecs_hold_at_the_border(x, y, kind):
    codec = kind(input_size=SIZE)
    found, _ = decoded(codec, codec.encode(np.array([[[x, y]]]), np.ones((1, 1), bool)))
    assert np.abs(found - [x, y]).max() < (1 if kind is UdpDark else 5)


@pytest.mark.parametrize("codec", ALL, ids=lambda c: c.name)
def test_other_codecs_are_near(codec):
    points = some_points(400, 12)
    found, scores = decoded(codec, codec.encode(points, everywhere(points)))
    assert np.abs(found - points).max() < 4.01
    assert (scores > 0.8).all() and (scores <= 1).all()


@pytest.mark.parametrize("codec", ALL, ids=lambda c: c.name)
def test_the_grid_is_where_peaks_are_decoded(codec):
    maps = np.zeros((1, 1, 64, 48), np.float32)
    maps[0, 0, 29:32, 19:22] = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5])
    (offset, pitch), (found, _) = codec.grid, decoded(codec, maps)
    assert np.abs(found[0, 0] - (offset + pitch * [20, 30])).max() <= 1


@pytest.mark.parametrize("scale", [0.8, 1.25])
@pytest.mark.parametrize("codec", ALL, ids=lambda c: c.name)
def test_heatmaps_of_larger_and_smaller_crops_are_moved_onto_the_usual_one(codec, scale):
    points, middle = some_points(400, 40), (np.array(SIZE) - 1) / 2
    elsewhere = codec.encode(middle + (points - middle) / scale, everywhere(points))
    found, _ = decoded(codec, codec.zoomed(elsewhere, scale))
    assert np.abs(found - points).max() < (0.3 if codec.name.startswith("udp") else 5.5)
    np.testing.assert_allclose(codec.zoomed(elsewhere, 1.0), elsewhere, atol=1e-5)


def test_the_expected_similarity_is_what_udp_oks_decodes():
    """Of two likely places and one likelier, the answer for a hip is between the two, for an eye the likelier one."""
    codec = UdpOks(input_size=SIZE)
    places = np.array([[[60.0, 100.0]], [[84.0, 100.0]], [[150.0, 200.0]]])
    one, other, third = codec.encode(places, np.ones((3, 1), bool))[:, 0]
    maps = np.stack([0.35 * one + 0.35 * other + 0.4 * third] * 2)[None]
    eye, hip = codec.decode(maps, [0.025, 0.107])[0][0]
    assert np.abs(eye - places[2, 0]).max() < 1
    assert np.abs(hip - [72, 100]).max() < 3
    with pytest.raises(ConfigError, match="2 joints, but sigmas of 17"):
        codec.decode(maps, COCO_17.sigmas)


def test_msra_moves_only_peaks_that_lie_inside_in_both_axes():
    """HRNet's rule, peak by peak: a quarter towards the higher neighbour where 1 < p < side - 1 in x and in y."""
    w, h = 8, 9
    maps = np.random.default_rng(0).uniform(0, 0.9, (1, w * h, h, w)).astype(np.float32)
    expected = np.zeros((1, w * h, 2))
    for place, (one, (y, x)) in enumerate(zip(maps[0], np.ndindex(h, w), strict=True)):
        one[y, x] = 1
        across = down = 0.0
        if 1 < x < w - 1 and 1 < y < h - 1:
            across = 0.25 if one[y, x + 1] > one[y, x - 1] else -0.25
            down = 0.25 if one[y + 1, x] > one[y - 1, x] else -0.25
        expected[0, place] = 4 * (x + across), 4 * (y + down)
    assert np.array_equal(decoded(Msra(input_size=(32, 36)), maps)[0], expected)


# Measured on perfect networks: bias in x and RMSE over both axes, in input pixels (4,000 points, 30 px inside), and
# how far from them still passes: the biased ones hang on the points that are drawn, the unbiased one does not. Of an
# ideal megvii target all four neighbours of the peak are its second maximum: the first in reading order counts.
BIAS = [
    (Msra, 0, -2.26, 2.68, 0.06), (Msra, 1, 0.25, 1.48, 0.06),
    (UdpDark, 0, 0.0, 0.001, 0.001), (UdpOks, 0, 0.0, 0.001, 0.001),
    (Megvii, 0, 0.25, 1.72, 0.06), (Megvii, 1, 1.50, 2.04, 0.06),
]


@pytest.mark.parametrize(("kind", "shift", "bias", "rmse", "within"), BIAS, ids=lambda v: getattr(v, "name", str(v)))
def test_flip_test_bias_table(kind, shift, bias, rmse, within):
    codec = kind(input_size=SIZE)
    points = some_points(4000, 30)
    mirrored = points.copy()
    mirrored[..., 0] = SIZE[0] - 1 - points[..., 0]
    keep = np.arange(17)
    plain, other = (codec.encode(p, everywhere(p)) for p in (points, mirrored))
    shifted = type("Shifted", (kind,), {"flip_shift": shift})(input_size=SIZE)
    merged = shifted.merge_flipped(plain, other, keep)
    found, _ = decoded(codec, merged)
    error = found - points
    assert error[..., 0].mean() == pytest.approx(bias, abs=within)
    assert np.sqrt((error**2).sum(-1).mean()) == pytest.approx(rmse, abs=within)


def test_dark_blurs_as_published():
    assert [UdpDark(input_size=SIZE, sigma=sigma).blur for sigma in (2.0, 3.0)] == [11, 17]


def test_udp_oks_blurs_with_the_similarity_itself():
    [kernel] = UdpOks(input_size=SIZE).kernels([0.107])
    away = STRIDE * (np.arange(len(kernel)) - len(kernel) // 2)
    area = np.full(len(kernel), (PERSON * SIZE[1]) ** 2)
    np.testing.assert_allclose(kernel, keypoint_similarity(away[:, None] ** 2.0, area, np.array([0.107]))[:, 0])


@pytest.mark.parametrize("kernel", [3, 5, 7, 9, 11, 13, 15])
def test_a_megvii_target_is_a_dot_blurred_by_opencv(kernel):
    dot = np.zeros((64, 48), np.float32)
    dot[30, 20] = 1
    blurred = cv2.GaussianBlur(dot, (kernel, kernel), 0)
    [[target]] = Megvii(input_size=SIZE, kernel=kernel).encode(np.array([[[82.0, 121.0]]]), np.ones((1, 1), bool))
    np.testing.assert_allclose(target, blurred / blurred.max(), atol=1e-6)


@pytest.mark.parametrize("kernel", [-5, 0, 1, 4, 5.5, 5.0, 33, 200, "5", True, None, float("nan")])
def test_only_odd_whole_kernels_are_taken(kernel):
    with pytest.raises(ConfigError, match=r"kernel is .*, expected an odd whole number of heatmap pixels, 3 to 31"):
        Megvii(input_size=SIZE, kernel=kernel)
    with pytest.raises(ConfigError, match="kernel is"):
        codec_from_json({"name": "megvii", "input_size": [192, 256], "kernel": kernel})


@pytest.mark.parametrize("codec", [*ALL, Megvii(input_size=SIZE, kernel=15), UdpDark(input_size=SIZE, sigma=3.0)],
                         ids=lambda c: c.name)
def test_a_whole_target_adds_up_to_its_volume(codec):
    [[target]] = codec.encode(np.array([[[80.0, 120.0]]]), np.ones((1, 1), bool))
    assert target.sum() == pytest.approx(codec.volume, rel=2e-3)


def test_megvii_prefers_a_broad_peak_to_a_lone_pixel():
    maps = np.zeros((1, 1, 64, 48), np.float32)
    maps[0, 0, 10, 10], maps[0, 0, 40:45, 30:35] = 1, 0.9
    [[point]], [[score]] = Megvii(input_size=SIZE).decode(maps, [0.1])
    assert np.abs(point - [4 * 32 + 2, 4 * 42 + 2]).max() <= 1 and score == pytest.approx(0.9)


def test_published_flip_shifts():
    assert (Msra.flip_shift, UdpDark.flip_shift, Megvii.flip_shift) == (1, 0, 0)


def test_flip_swaps_left_and_right():
    codec = UdpDark(input_size=SIZE)
    points = some_points(17, 30)
    mirrored = points[:, COCO_17.flip_index].copy()
    mirrored[..., 0] = SIZE[0] - 1 - mirrored[..., 0]
    merged = codec.merge_flipped(codec.encode(points, everywhere(points)), codec.encode(mirrored, everywhere(points)),
                                 COCO_17.flip_index)
    assert np.abs(decoded(codec, merged)[0] - points).max() < 0.01


@pytest.mark.parametrize("codec", ALL, ids=lambda c: c.name)
def test_unlabelled_and_outside_joints_have_no_target(codec):
    points = np.array([[[-40.0, 20], [50, 300], [50, 50], [60, 60]]])
    maps = codec.encode(points, np.array([[True, True, False, True]]))
    assert maps[0, :3].max() == 0 and maps[0, 3].max() > 0.8


@pytest.mark.parametrize("codec", ALL, ids=lambda c: c.name)
def test_strange_maps_decode_to_finite_points(codec):
    w, h = codec.heatmap_size
    rng = np.random.default_rng(0)
    for maps in (np.zeros((1, 3, h, w)), np.full((2, 3, h, w), -5.0), rng.normal(size=(2, 3, h, w)),
                 np.ones((1, 1, h, w)), np.zeros((0, 17, h, w))):
        points, scores = decoded(codec, maps.astype(np.float32))
        assert points.shape == (*maps.shape[:2], 2) and np.isfinite(points).all()
        assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("codec", [*ALL, UdpDark(input_size=(128, 96), sigma=1.5), Megvii(input_size=SIZE, kernel=11)],
                         ids=lambda c: f"{c.name}-{c.input_size[0]}")
def test_a_model_file_brings_the_codec_back(codec):
    assert codec_from_json(codec.to_json()) == codec


def test_bad_descriptions_are_named():
    with pytest.raises(ConfigError, match="'simcc'"):
        codec_from_json({"name": "simcc"})
    with pytest.raises(ConfigError, match="flip_shift"):
        codec_from_json({**ALL[0].to_json(), "flip_shift": 0})
    with pytest.raises(ConfigError, match="191x256"):
        UdpDark(input_size=(191, 256))
    for side in (192.5, 192.0, "192"):
        with pytest.raises(ConfigError, match=r"input_size .* must be whole numbers of pixels"):
            codec_from_json({"name": "udp-dark", "input_size": [side, 256]})
    with pytest.raises(ConfigError, match="kernel"):
        codec_from_json({"name": "msra", "input_size": [192, 256], "kernel": 5})
    assert set(CODECS) == {"msra", "megvii", "udp-dark", "udp-oks"}


def test_coarser_levels_keep_the_place():
    codec = UdpDark(input_size=SIZE)
    point = np.array([[[100.0, 120.0]]])
    for stride in (8, 16, 32):
        level = replace(codec, stride=stride, sigma=1.0)
        assert np.abs(decoded(level, level.encode(point, np.ones((1, 1), bool)))[0] - point).max() < 1.0


def test_a_level_of_one_pixel_draws_what_lies_in_it():
    """The coarsest level of a 32x32 input."""
    codec = UdpDark(input_size=(32, 32), stride=32)
    [[drawn]] = codec.encode(np.array([[[3.0, 4.0]]]), np.ones((1, 1), dtype=bool))
    assert drawn.shape == (1, 1) and 0.9 < drawn[0, 0] < 1


def test_a_codec_comes_back_from_json_with_all_of_its_fields(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Soft(UdpDark):
        temperature: float = 1.0
        name: ClassVar[str] = "soft"

    monkeypatch.setitem(CODECS, "soft", Soft)
    codec = Soft(input_size=SIZE, temperature=0.1)
    assert codec_from_json(codec.to_json()) == codec
    with pytest.raises(ConfigError, match="temperature"):
        codec_from_json({**UdpDark(input_size=SIZE).to_json(), "temperature": 0.1})
