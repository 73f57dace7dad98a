"""Pixels, points and sides move together; a sample depends on (seed, epoch, index) alone."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from stagepose.errors import ConfigError
from stagepose.skeleton import COCO_17, Skeleton
from stagepose.training.augment import (
    NO_AUGMENTATION,
    UNIFORMS,
    AugmentConfig,
    Draw,
    augment,
    looks,
    motion,
    occluded,
    refuse_mirroring,
)
from stagepose.training.randomness import generator, uniforms, weighted_order

CANVAS, SIZE = (144, 192), (96, 128)
GEOMETRY = AugmentConfig(half_body_chance=0.5, stretch_chance=0.5, colour=0, grey_chance=0, occlusion_chance=0,
                         blur_chance=0)
EVERYTHING = AugmentConfig(stretch_chance=0.5, half_body_chance=0.5, occlusion_chance=0.6, blur_chance=0.3,
                           coarse_chance=0.3, jpeg_chance=0.5, noise_chance=0.5)


def dotted_batch(count, seed=0, canvas=CANVAS):
    """Black canvases with a soft white dot on the nose, the first keypoint."""
    rng = np.random.default_rng(seed)
    keypoints = np.zeros((count, 17, 3))
    middle, reach = (np.array(canvas) - 1) / 2, np.array([22, 36])
    keypoints[..., :2] = rng.uniform(middle - reach, middle + reach, (count, 17, 2))
    keypoints[..., 2] = 2
    ys, xs = np.mgrid[: canvas[1], : canvas[0]]
    crops = np.zeros((count, canvas[1], canvas[0], 3), np.uint8)
    for i in range(count):
        x, y = keypoints[i, 0, :2]
        crops[i] = (255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 18))[..., None]
    return crops, keypoints


def draws(count, seed=0):
    return uniforms(seed, [(0, i) for i in range(count)], UNIFORMS)


def changed(crops, keypoints, u, config, skeleton=COCO_17, **options):
    images, moved, _ = augment(crops, keypoints, u, base_scale=1.0, size=SIZE, skeleton=skeleton, config=config,
                               **options)
    return images, moved


def noisy(count, seed=0, size=SIZE):
    """Float pictures (B, h, w, 3) with coarse and fine detail, as the looks are changed on."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 215, (count, size[1] // 8, size[0] // 8, 3)).repeat(8, 1).repeat(8, 2)
    return torch.from_numpy((coarse + rng.normal(0, 10, coarse.shape)).clip(0, 255)).float()


# --- motion


def test_pixels_move_with_points():
    crops, keypoints = dotted_batch(96)
    images, moved = changed(crops, keypoints, draws(96, seed=3), GEOMETRY)
    assert images.shape == (96, 3, 128, 96)
    seen = 0
    for image, points in zip(images[:, 0].numpy(), moved, strict=True):
        x, y, v = points[0]
        if v and 12 < x < 84 and 12 < y < 116:
            py, px = np.unravel_index(image.argmax(), image.shape)
            assert np.hypot(px - x, py - y) < 2  # up to 2.5 x zoom of a peak that is known to half a pixel
            seen += 1
    assert seen > 45


def photos(count, seed=0, size=CANVAS):
    """uint8 canvases (B, H, W, 3) of the same kind."""
    return noisy(count, seed, size).to(torch.uint8).numpy()


def test_one_affine_a_sample_is_the_same_on_any_device():
    """What a GPU computes with a grid, a CPU does with OpenCV."""
    pictures = photos(8)
    forward, _ = motion.sample_affines(dotted_batch(8)[1], draws(8), base_scale=1.0, canvas=CANVAS, size=SIZE,
                                       skeleton=COCO_17, config=GEOMETRY)
    here, there = motion.warp(pictures, forward, SIZE), motion.warp(torch.from_numpy(pictures), forward, SIZE)
    assert here.shape == there.shape == (8, 128, 96, 3)
    assert (here - there).abs().mean() < 0.5 and (here - there).abs().quantile(0.999) < 4  # OpenCV 4: 1/32 of a pixel


def test_mirroring_swaps_sides():
    crops, keypoints = dotted_batch(2)
    images, flipped = changed(crops, keypoints, draws(2), replace(NO_AUGMENTATION, flip_chance=1))
    straight, plain = changed(crops, keypoints, draws(2), NO_AUGMENTATION)
    expected = plain[:, COCO_17.flip_index].copy()
    expected[..., 0] = SIZE[0] - 1 - expected[..., 0]
    assert np.allclose(flipped[..., :2], expected[..., :2])
    assert torch.allclose(images, straight.flip(-1), atol=1)  # rounded to grey levels


def test_mirrored_twice_is_the_same_again():
    crops, keypoints = dotted_batch(4, canvas=SIZE)
    always = replace(NO_AUGMENTATION, flip_chance=1)
    once, moved = changed(crops, keypoints, draws(4), always)
    twice, back = changed(once.permute(0, 2, 3, 1).to(torch.uint8).numpy(), moved, draws(4), always)
    assert np.array_equal(twice.permute(0, 2, 3, 1).numpy(), crops) and not torch.equal(once, twice)
    assert np.allclose(back, keypoints)


def test_a_skeleton_that_cannot_be_mirrored_says_what_to_do():
    tool = Skeleton(name="tool", names=("tip", "handle"))
    with pytest.raises(ConfigError, match=r"skeleton 'tool' has no flip_pairs.*--no-mirror"):
        refuse_mirroring(AugmentConfig(), tool)
    refuse_mirroring(AugmentConfig(flip_chance=0), tool)
    refuse_mirroring(AugmentConfig(), COCO_17)
    half = Skeleton(name="half", names=("left_a", "right_a", "left_b"), flip_pairs=(("left_a", "right_a"),))
    with pytest.raises(ConfigError, match="flip_pairs of skeleton 'half' do not say what 'left_b' trades places with"):
        refuse_mirroring(AugmentConfig(), half)
    refuse_mirroring(AugmentConfig(flip_chance=0), half)


def test_without_augmentation_the_centre_is_cut_out():
    crops, keypoints = dotted_batch(3)
    images, moved = changed(crops, keypoints, draws(3), NO_AUGMENTATION)
    assert np.allclose(images.permute(0, 2, 3, 1), crops[:, 32:160, 24:120], atol=1e-2)
    assert np.allclose(moved[..., :2], keypoints[..., :2] - [24, 32])
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_points_that_leave_become_unlabelled():
    crops, keypoints = dotted_batch(1)
    keypoints[0, 5, :2] = (2, 2)
    _, moved = changed(crops, keypoints, draws(1), NO_AUGMENTATION)
    assert moved[0, 5, 2] == 0 and (np.delete(moved[0, :, 2], 5) == 2).all()


def test_a_stretched_box_shows_more_and_distorts_nobody():
    """Each side grows by its own factor, and a box of the input's shape gets it again: the larger one zooms out."""
    _, keypoints = dotted_batch(200)
    config = replace(NO_AUGMENTATION, stretch_chance=0.5, stretch=(1.5, 3.0), rotation=40, rotation_chance=1)
    forward, _ = motion.sample_affines(keypoints, draws(200), base_scale=1.0, canvas=CANVAS, size=SIZE,
                                       skeleton=COCO_17, config=config)
    most, least = np.linalg.svd(forward[:, :, :2], compute_uv=False).T
    assert np.allclose(most, least)
    u = draws(200)
    sides = 1 + np.array([0.5, 2.0]) * u[:, [Draw.STRETCH_X, Draw.STRETCH_Y]]
    stretched = u[:, Draw.STRETCHED] < 0.5
    assert 60 < stretched.sum() < 140 and (sides[stretched, 0] > sides[stretched, 1]).any()
    assert np.allclose(1 / most, np.where(stretched, sides.max(1), 1))
    middle = np.array([(CANVAS[0] - 1) / 2, (CANVAS[1] - 1) / 2, 1])
    assert np.allclose(forward @ middle, (np.array(SIZE) - 1) / 2)


def test_turn_zoom_and_shift_reach_what_was_asked_and_no_more():
    config = replace(NO_AUGMENTATION, rotation=30, rotation_chance=0.5, scale=0.25, shift=0.1)
    forward, _ = motion.sample_affines(dotted_batch(1)[1].repeat(400, 0), draws(400), base_scale=2.0, canvas=CANVAS,
                                       size=SIZE, skeleton=COCO_17, config=config)
    zoom, turn = np.linalg.det(forward[:, :, :2]) ** 0.5 / 2, np.rad2deg(np.arctan2(forward[:, 0, 1], forward[:, 0, 0]))
    middle = np.array([(CANVAS[0] - 1) / 2, (CANVAS[1] - 1) / 2, 1])
    shift = (forward @ middle - (np.array(SIZE) - 1) / 2) / SIZE
    assert 0.8 <= zoom.min() < 0.81 and 1.24 < zoom.max() <= 1.25 and 0.45 < (zoom < 1).mean() < 0.55
    assert 28 < np.abs(turn).max() <= 30 and 0.4 < (turn != 0).mean() < 0.6 and abs(turn.mean()) < 2
    assert 0.098 < np.abs(shift).max() <= 0.1 and np.abs(shift.mean(0)).max() < 0.01


def test_a_body_half_fills_the_input():
    _, keypoints = dotted_batch(40)
    keypoints[:20, 9:, 2] = 0  # 9 joints are left, all of the upper half
    keypoints[20:, 8:, 2] = 0  # too few
    config = replace(NO_AUGMENTATION, half_body_chance=1)
    forward, mirrored = motion.sample_affines(keypoints, draws(40), base_scale=1.0, canvas=CANVAS, size=SIZE,
                                              skeleton=COCO_17, config=config)
    moved = motion.move_keypoints(keypoints, forward, mirrored, size=SIZE, skeleton=COCO_17)
    upper = draws(40)[:, Draw.WHICH_HALF] < 0.5
    closer = forward[:, 0, 0] > 1
    assert (closer == (upper & (np.arange(40) < 20))).all() and 4 < closer.sum() < 16
    xy = moved[closer, :9, :2]
    assert (moved[closer, :9, 2] == 2).all()  # nobody of them is cut off
    assert np.allclose((xy.min(1) + xy.max(1)) / 2, (np.array(SIZE) - 1) / 2)
    assert ((xy.max(1) - xy.min(1)) / SIZE <= 1 / motion.HALF_CONTEXT + 1e-9).all()


# --- looks


def test_a_sample_is_the_same_in_any_batch():
    crops = photos(12)
    keypoints, u = dotted_batch(12)[1], uniforms(5, [(2, i) for i in range(12)], UNIFORMS)
    rows, _ = occluded(u, EVERYTHING)
    others = photos(len(rows), seed=1)
    whole, points = changed(crops, keypoints, u, EVERYTHING, occluders=others)
    for i in range(12):
        mine = others[rows == i] if i in rows else None
        alone, point = changed(crops[i : i + 1], keypoints[i : i + 1], u[i : i + 1], EVERYTHING, occluders=mine)
        off = (whole[i] - alone[0]).abs()  # a coefficient halfway between two steps may be rounded either way
        assert off.mean() < 1e-2 and (off > 1e-2).float().mean() < 0.01 and np.allclose(points[i], point[0])


def test_colour_of_a_grey_picture_is_what_was_asked():
    u = np.full((2, UNIFORMS), 0.5)
    u[0, [Draw.RED, Draw.BRIGHTNESS]] = 1.0, 0.75
    u[1, Draw.CONTRAST] = 0.0
    images = torch.full((2, 8, 8, 3), 100.0)
    images[1, :4] = 50
    looks.colour(images, u, replace(NO_AUGMENTATION, colour=0.2))
    assert torch.allclose(images[0, 0, 0], torch.tensor([121.0, 110.0, 110.0]))
    assert torch.allclose(images[1, 0], torch.tensor(55.0)) and torch.allclose(images[1, -1], torch.tensor(95.0))


def test_grey_is_the_mean_of_the_channels_of_some():
    images, u = noisy(2), np.ones((2, UNIFORMS))
    before, u[1, Draw.GREY] = images.clone(), 0
    looks.colour(images, u, replace(NO_AUGMENTATION, grey_chance=0.5))
    assert torch.equal(images[0], before[0])
    assert torch.allclose(images[1], before[1].mean(-1, keepdim=True).expand(-1, -1, 3))


@pytest.mark.parametrize(("chance", "step"), [
    ("grey_chance", looks.colour), ("noise_chance", looks.add_noise), ("jpeg_chance", looks.compress),
    ("blur_chance", lambda images, *_: looks.coarsen(images, np.arange(2), 2)),
    ("coarse_chance", lambda images, *_: looks.coarsen(images, np.arange(2), 4)),
])
def test_each_chance_does_its_own(chance, step):
    images, u, config = noisy(2), draws(2), replace(NO_AUGMENTATION, **{chance: 1})
    expected = images.clone()
    step(expected, u, config)
    assert not torch.equal(images, expected)
    looks.change_looks(images, u, config)
    assert torch.equal(images, expected)


@pytest.mark.parametrize("to_canvases", [list, torch.from_numpy], ids=["arrays, as on a CPU", "a tensor, as on a GPU"])
def test_an_occluder_covers_one_rectangle_with_its_own_pixels(to_canvases):
    u = draws(200)
    rows, _ = occluded(u, replace(NO_AUGMENTATION, occlusion_chance=0.5))
    images = torch.zeros(200, 128, 96, 3)
    others = np.tile(np.arange(1, 193, dtype=np.uint8)[:, None, None], (len(rows), 1, 144, 3))
    looks.occlude(images, to_canvases(others), u, replace(NO_AUGMENTATION, occlusion_chance=0.5))
    covered = images[..., 0] > 0
    assert set(np.flatnonzero(covered.any(2).any(1).numpy())) == set(rows)
    for image, mask in zip(images[rows, ..., 0], covered[rows], strict=True):
        ys, xs = (torch.nonzero(mask.any(axis))[:, 0] for axis in (1, 0))
        assert mask.sum() == len(ys) * len(xs) == (ys[-1] - ys[0] + 1) * (xs[-1] - xs[0] + 1)
        assert 0.005 < mask.float().mean() < 0.17
        column = image[ys, xs[0]]
        assert (column.diff() == 1).all() and (image[ys][:, xs] == column[:, None]).all()  # as it was, not repeated


def test_an_occluder_is_the_same_on_any_device():
    images, u = noisy(100), draws(100, seed=1)
    others, there = photos(len(occluded(u, EVERYTHING)[0])), images.clone()
    looks.occlude(images, others, u, EVERYTHING)
    assert (images != there).any()
    looks.occlude(there, torch.from_numpy(others), u, EVERYTHING)
    assert torch.equal(images, there)


def test_occluders_must_be_as_many_as_are_needed():
    with pytest.raises(ValueError, match="1 occluders for 2 samples"):
        looks.occlude(noisy(2), photos(1), np.zeros((2, UNIFORMS)), AugmentConfig())


def test_only_some_samples_get_an_occluder():
    rows, choices = occluded(draws(400), AugmentConfig(occlusion_chance=0.4))
    assert 0.3 < len(rows) / 400 < 0.5 and len(set(choices)) == len(rows)
    assert not len(occluded(draws(1), NO_AUGMENTATION)[0])


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 95])
def test_compression_is_that_of_a_jpeg_file(quality):
    """A real encoder's and decoder's result at the same quality, but for their rounding."""
    images = noisy(1, size=(92, 124))  # no multiples of 8
    options = [cv2.IMWRITE_JPEG_QUALITY, quality,
               cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    file = cv2.imencode(".jpg", images[0].round().numpy().astype(np.uint8)[..., ::-1], options)[1]
    expected = torch.from_numpy(cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32))
    before = images.clone()
    looks.compress(images, np.zeros((1, UNIFORMS)),
                   replace(NO_AUGMENTATION, jpeg_chance=1, jpeg_quality=(quality, quality)))
    lost, off = (before[0] - expected).abs().mean(), (images[0] - expected).abs().mean()
    assert off < 1.2 and off < 0.35 * lost


def test_noise_is_as_strong_as_asked_and_everyones_own():
    u = draws(40)
    images = torch.full((40, 128, 96, 3), 128.0)
    looks.add_noise(images, u, replace(NO_AUGMENTATION, noise_chance=0.5, noise=10.0))
    noisy_rows = u[:, Draw.NOISY] < 0.5
    assert torch.allclose(images.std((1, 2, 3)), torch.from_numpy(noisy_rows * u[:, Draw.NOISE] * 10).float(), atol=0.1)
    found = (images[noisy_rows] - 128).flatten(1)
    alike = torch.corrcoef(found) - torch.eye(len(found))
    assert alike.abs().max() < 0.03


@pytest.mark.parametrize("factor", [2, 4])
def test_coarser_pictures_keep_their_colours_and_lose_their_detail(factor):
    images = noisy(3)
    before = images.clone()
    looks.coarsen(images, np.array([0, 2]), factor)
    assert torch.equal(images[1], before[1]) and not torch.equal(images[0], before[0])
    assert torch.allclose(images.mean((1, 2)), before.mean((1, 2)), atol=0.5)
    assert images[0].diff(dim=1).abs().mean() < 0.6 * before[0].diff(dim=1).abs().mean()


# --- randomness and settings


def test_new_random_numbers_leave_the_old_ones_alone():
    assert np.array_equal(uniforms(1, [(2, 3)], UNIFORMS)[:, :28], uniforms(1, [(2, 3)], 28))
    assert [column.value for column in Draw] == list(range(UNIFORMS))


def test_random_streams_differ_by_every_part_of_the_key():
    assert len({tuple(generator(*key).random(3)) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}) == 4


def test_weighted_order_shows_people_as_often_as_asked():
    order = weighted_order(0, 0, [10, 20], [2.5, 1])
    counts = np.bincount(order, minlength=30)
    assert counts[:10].sum() == 25 and set(counts[:10]) == {2, 3} and (counts[10:] == 1).all()
    other = weighted_order(0, 1, [10, 20], [2.5, 1])
    assert sorted(order[order >= 10]) == sorted(other[other >= 10]) and list(order) != list(other)
    assert list(order) == list(weighted_order(0, 0, [10, 20], [2.5, 1]))


def test_an_epoch_without_samples_is_named():
    with pytest.raises(ConfigError, match="epoch"):
        weighted_order(0, 0, [4], [0.01])


@pytest.mark.parametrize(("change", "message"), [
    ({"flip_chance": 1.5}, r"flip_chance is 1\.5"), ({"noise_chance": -0.1}, r"noise_chance is -0\.1"),
    ({"scale": 1}, "scale is 1"), ({"stretch": (0.5, 1.0)}, r"stretch is \(0\.5"), ({"noise": 300}, "noise is 300"),
    ({"colour": 3.0}, r"colour is 3\.0"), ({"shift": -7}, "shift is -7"), ({"rotation": -900}, "rotation is -900"),
    ({"half_body_joints": -3}, "half_body_joints is -3"),
    ({"jpeg_quality": (80, 20)}, r"jpeg_quality is \(80"), ({"jpeg_quality": (0, 20)}, "jpeg_quality"),
])
def test_settings_out_of_range_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        AugmentConfig(**change)
