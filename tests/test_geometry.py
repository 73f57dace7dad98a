"""Points and pixels move together, and come back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagepose.errors import ConfigError
from stagepose.geometry import (
    Affine,
    covered_shares,
    crop_affine,
    fit_box,
    iou_matrix,
    read_padding,
    similarity,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

finite = st.floats(-500, 500)


@given(st.floats(0.4, 200), finite, finite, st.floats(-180, 180))
def test_inverse_brings_points_back(scale, x, y, rotation):
    affine = similarity(np.array([x, y]), np.array([95.5, 127.5]), scale, rotation)
    points = np.array([[0.0, 0.0], [10, -20], [300, 77]])
    assert np.allclose(affine.inverse().points(affine.points(points)), points, atol=1e-6)
    both = affine.then(affine.inverse())
    assert np.allclose(both.matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-6)


@given(st.floats(1, 400), st.floats(1, 400), finite, finite, st.sampled_from([0.0, 90.0, 180.0]))
def test_boxes_move_by_their_edges(width, height, x, y, rotation):
    box = np.array([[x, y, x + width, y + height]])
    affine = crop_affine(box[0], (192, 256))
    moved = affine.boxes(box)
    assert np.allclose(moved[0, [0, 2]], [0, 192], atol=1e-6)
    assert affine.boxes(np.zeros((0, 4))).shape == (0, 4)
    turned = affine.then(similarity(np.array([95.5, 127.5]), np.array([95.5, 127.5]), 1.0, rotation))
    assert np.allclose(turned.inverse().boxes(turned.boxes(box)), box, atol=1e-6)


def test_a_positive_rotation_turns_the_content_counter_clockwise():
    quarter = similarity(np.array([31.5, 31.5]), np.array([31.5, 31.5]), 1.0, 90)
    assert np.allclose(quarter.points(np.array([63, 31.5])), [31.5, 0])  # what was at the right is at the top


def test_box_corners_land_on_crop_corners():
    """A box edge is half a pixel outside its outermost pixel's centre, before and after."""
    affine = crop_affine(np.array([10.0, 20.0, 58.0, 84.0]), (192, 256))
    edges = affine.points(np.array([[10.0, 20.0], [58.0, 84.0]]) - 0.5) + 0.5
    assert np.allclose(edges, [[0, 0], [192, 256]])


@pytest.mark.parametrize(("rotation", "expected"), [
    (0, [[4, 0, -300], [0, 4, -300]]),
    (45, [[2.828427, 2.828427, -465.685303], [-2.828427, 2.828427, 100]]),
])
def test_the_published_warp_of_a_box(rotation, expected):
    """A box of 50 x 50 about (100, 100) into 200 x 200, as the top-down warp of mmpose and HRNet has it.

    Theirs is a map of edges, in which the crop's middle is W / 2; of points, half a pixel off before and after.
    """
    centre = np.array([100.0, 100])
    assert np.allclose(similarity(centre, centre, 4, rotation).matrix, expected, atol=2e-4)
    middle = np.array([99.5, 99.5])
    points = crop_affine(np.array([75.0, 75, 125, 125]), (200, 200)).then(similarity(middle, middle, 1, rotation))
    to_points, to_edges = (Affine(np.array([[1, 0, half], [0, 1, half]])) for half in (-0.5, 0.5))
    assert np.allclose(to_points.then(points).then(to_edges).matrix, expected, atol=2e-4)


@pytest.mark.parametrize("scale", [4.0, 1.0, 0.6, 0.3, 0.11])
def test_pixels_move_with_points(scale):
    """A bright disc lands where its centre's point lands, also when it is shrunk a lot."""
    picture = np.zeros((200, 300, 3), np.uint8)
    ys, xs = np.mgrid[:200, :300]
    picture[(xs - 141.3) ** 2 + (ys - 82.6) ** 2 < 14**2] = 255
    grey = picture[..., 0].astype(float)
    centre = np.array([(xs * grey).sum(), (ys * grey).sum()]) / grey.sum()
    affine = similarity(np.array([150.0, 100.0]), np.array([150.0, 150.0]), scale, 25)
    out = affine.warp(picture, (301, 301))[..., 0].astype(float)
    oy, ox = np.mgrid[:301, :301]
    found = np.array([(ox * out).sum(), (oy * out).sum()]) / out.sum()
    assert np.abs(found - affine.points(centre)).max() < 0.15


@pytest.mark.parametrize("scale", [0.07, 0.3, 1.0, 3.0])
def test_only_what_is_seen_is_touched(scale):
    """A crop from a corner of a large picture is that of the small part of it alone; one from outside is empty."""
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 255, (30, 40, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    there = similarity(np.array([700.0, 520.0]), np.array([31.5, 31.5]), scale)
    full = there.warp(picture, (64, 64))
    y0, x0 = (0, 0) if scale < 0.5 else (360, 480)
    part = Affine(np.array([[1.0, 0, x0], [0, 1, y0]])).then(there).warp(picture[y0:, x0:], (64, 64))
    assert np.abs(full.astype(int) - part).max() <= 1
    elsewhere = similarity(np.array([9e3, 9e3]), np.array([31.5, 31.5]), scale)
    assert (elsewhere.warp(picture, (64, 64), border=5) == 5).all()


def test_warp_leaves_the_border_grey_and_the_source_alone():
    picture = np.full((10, 10, 3), 200, np.uint8)
    out = Affine(np.array([[1.0, 0, 5], [0, 1, 5]])).warp(picture, (20, 20), border=7)
    assert (out[0, 0] == 7).all() and (out[10, 10] == 200).all() and (picture == 200).all()


def test_flat_or_broken_maps_are_refused():
    with pytest.raises(ConfigError, match="no inverse"):
        Affine(np.zeros((2, 3))).inverse()
    with pytest.raises(ConfigError, match="finite"):
        Affine(np.full((2, 3), np.nan))
    with pytest.raises(ConfigError, match="shape"):
        Affine(np.zeros((3, 3)))


@given(finite, finite, st.floats(0, 300), st.floats(0, 300), st.floats(0.3, 3), st.floats(1, 2))
def test_fit_box_grows_about_the_centre(x, y, width, height, aspect, padding):
    box = fit_box(np.array([x, y, x + width, y + height]), aspect, padding)
    w, h = box[2] - box[0], box[3] - box[1]
    assert w / h == pytest.approx(aspect)
    assert w >= width - 1e-6 and h >= height - 1e-6
    assert (box[0] + box[2]) / 2 == pytest.approx(x + width / 2, abs=1e-6)


def test_boxes_change_form_and_overlap():
    boxes = np.array([[1.0, 2, 3, 4], [0, 0, 10, 5]])
    assert np.array_equal(xyxy_to_xywh(xywh_to_xyxy(boxes)), boxes)
    overlap = iou_matrix(np.array([[0, 0, 2, 2], [0, 0, 0, 0]]), np.array([[1, 0, 3, 2], [0, 0, 2, 2.0]]))
    assert np.allclose(overlap, [[1 / 3, 1], [0, 0]])


def test_the_share_that_others_cover():
    boxes, others = np.array([[0, 0, 4, 2], [1, 1, 1, 1.0]]), np.array([[2, 1, 9, 9], [5, 5, 6, 6], [0, 0, 9, 9.0]])
    assert covered_shares(boxes, others).tolist() == [[0.25, 0, 1], [0, 0, 0]]
    assert covered_shares(boxes, others[:0]).shape == (2, 0)


def test_of_a_pair_the_sides_grow_before_the_aspect_is_set():
    """Megvii's test boxes: x 1.09, y 1.135, then 3:4."""
    tall, wide = (fit_box(np.array(box), 3 / 4, (1.09, 1.135)) for box in ([50.0, 20, 150, 220], [0.0, 0, 200, 100]))
    assert np.allclose(tall, [100 - 170.25 / 2, 120 - 227 / 2, 100 + 170.25 / 2, 120 + 227 / 2])
    assert np.allclose(wide[2:] - wide[:2], [218, 218 / 0.75])


@given(st.floats(0, 400), st.floats(0, 400), st.floats(0.3, 3), st.floats(0.5, 4))
def test_a_pair_of_equals_is_the_number(width, height, aspect, padding):
    box = np.array([10.0, 20, 10 + width, 20 + height])
    assert np.array_equal(fit_box(box, aspect, (padding, padding)), fit_box(box, aspect, padding))
    grown = np.maximum(box[2:] - box[:2], 1)
    expected = max(grown[0], grown[1] * aspect) * padding  # a model's people to the last bit, whatever a pair needs
    centre = (box[0] + box[2]) / 2
    assert fit_box(box, aspect, padding)[0] == centre - expected / 2


def test_a_padding_is_a_number_or_a_pair():
    assert read_padding(2) == 2.0 and read_padding(np.float64(1.1)) == read_padding(np.array(1.1)) == 1.1
    assert read_padding([1.09, np.float64(1.135)]) == read_padding(np.array([1.09, 1.135])) == (1.09, 1.135)
    for wrong in ("1.25", None, [1.25], (1, 2, 3), [1, "x"], True, (1, True), np.array(1.25)[None], np.array("x")):
        with pytest.raises(ValueError, match=r"expected a number, or a pair \(x, y\)"):
            read_padding(wrong)
    for wrong in (0.1, float("nan"), (1.25, 5), 10**400):
        with pytest.raises(ValueError, match=r"use 0\.5 to 4; 1\.25 is usual"):
            read_padding(wrong)
