"""Pixels, points and sides move together; a sample depends on (seed, epoch, index) alone."""

import numpy as np
import pytest
import torch

from stagepose.errors import ConfigError
from stagepose.skeleton import COCO_17
from stagepose.training.augment import NO_AUGMENTATION, UNIFORMS, AugmentConfig, augment, occluded
from stagepose.training.randomness import generator, uniforms, weighted_order

CANVAS, SIZE = (144, 192), (96, 128)
GEOMETRY = AugmentConfig(half_body_chance=0.5, colour=0, grey_chance=0, occlusion_chance=0, blur_chance=0)


def dotted_batch(count, seed=0):
    """Black canvases with a soft white dot on the nose and a soft grey one on the left wrist."""
    rng = np.random.default_rng(seed)
    keypoints = np.zeros((count, 17, 3))
    keypoints[..., :2] = rng.uniform([50, 60], [94, 132], (count, 17, 2))
    keypoints[..., 2] = 2
    ys, xs = np.mgrid[: CANVAS[1], : CANVAS[0]]
    crops = np.zeros((count, CANVAS[1], CANVAS[0], 3), np.uint8)
    for i in range(count):
        x, y = keypoints[i, 0, :2]
        crops[i] = (255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 18))[..., None]
    return torch.from_numpy(crops), keypoints


def test_pixels_move_with_points():
    crops, keypoints = dotted_batch(64)
    images, moved = augment(crops, keypoints, uniforms(3, [(0, i) for i in range(64)], UNIFORMS), base_scale=1.0,
                            size=SIZE, skeleton=COCO_17, config=GEOMETRY)
    assert images.shape == (64, 3, 128, 96)
    seen = 0
    for image, points in zip(images[:, 0].numpy(), moved, strict=True):
        x, y, v = points[0]
        if v and 12 < x < 84 and 12 < y < 116:
            py, px = np.unravel_index(image.argmax(), image.shape)
            assert np.hypot(px - x, py - y) < 2  # up to 2.5 x zoom of a peak that is known to half a pixel
            seen += 1
    assert seen > 30


def test_mirroring_swaps_sides():
    crops, keypoints = dotted_batch(2)
    always = AugmentConfig(rotation_chance=0, scale=0, shift=0, flip_chance=1, half_body_chance=0, colour=0,
                           grey_chance=0, occlusion_chance=0, blur_chance=0)
    draws = uniforms(0, [(0, 0), (0, 1)], UNIFORMS)
    _, plain = augment(crops, keypoints, draws, base_scale=1.0, size=SIZE, skeleton=COCO_17, config=NO_AUGMENTATION)
    images, flipped = augment(crops, keypoints, draws, base_scale=1.0, size=SIZE, skeleton=COCO_17, config=always)
    expected = plain[:, COCO_17.flip_index].copy()
    expected[..., 0] = SIZE[0] - 1 - expected[..., 0]
    assert np.allclose(flipped[..., :2], expected[..., :2])
    straight, _ = augment(crops, keypoints, draws, base_scale=1.0, size=SIZE, skeleton=COCO_17, config=NO_AUGMENTATION)
    assert torch.allclose(images, straight.flip(-1), atol=1e-2)


def test_without_augmentation_the_centre_is_cut_out():
    crops, keypoints = dotted_batch(3)
    images, moved = augment(crops, keypoints, uniforms(0, [(0, i) for i in range(3)], UNIFORMS), base_scale=1.0,
                            size=SIZE, skeleton=COCO_17, config=NO_AUGMENTATION)
    assert torch.allclose(images, crops[:, 32:160, 24:120].permute(0, 3, 1, 2).float(), atol=1e-2)
    assert np.allclose(moved[..., :2], keypoints[..., :2] - [24, 32])


def test_points_that_leave_become_unlabelled():
    crops, keypoints = dotted_batch(1)
    keypoints[0, 5, :2] = (2, 2)
    _, moved = augment(crops, keypoints, uniforms(0, [(0, 0)], UNIFORMS), base_scale=1.0, size=SIZE,
                       skeleton=COCO_17, config=NO_AUGMENTATION)
    assert moved[0, 5, 2] == 0 and (np.delete(moved[0, :, 2], 5) == 2).all()


def test_a_sample_is_the_same_in_any_batch():
    crops, keypoints = dotted_batch(4)
    config = AugmentConfig(occlusion_chance=1)
    keys = [(2, 7), (2, 8), (2, 9), (2, 10)]
    others = torch.randint(0, 256, crops.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole, points = augment(crops, keypoints, uniforms(5, keys, UNIFORMS), base_scale=1.0, size=SIZE,
                            skeleton=COCO_17, config=config, occluders_MHW3=others)
    alone, point = augment(crops[2:3], keypoints[2:3], uniforms(5, keys[2:3], UNIFORMS), base_scale=1.0, size=SIZE,
                           skeleton=COCO_17, config=config, occluders_MHW3=others[2:3])
    assert torch.allclose(whole[2], alone[0], atol=1e-3) and np.allclose(points[2], point[0])
    clear, _ = augment(crops, keypoints, uniforms(5, keys, UNIFORMS), base_scale=1.0, size=SIZE, skeleton=COCO_17,
                       config=config)
    changed = (whole != clear).any(1).float().mean((1, 2))
    assert (changed > 0.005).all() and (changed < 0.2).all()


def test_only_some_samples_get_an_occluder():
    rows, choices = occluded(uniforms(0, [(0, i) for i in range(400)], UNIFORMS), AugmentConfig(occlusion_chance=0.4))
    assert 0.3 < len(rows) / 400 < 0.5 and len(set(choices)) == len(rows)
    assert not len(occluded(uniforms(0, [(0, 0)], UNIFORMS), NO_AUGMENTATION)[0])


def test_random_streams_differ_by_every_part_of_the_key():
    draws = {tuple(generator(*key).random(3)) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}
    assert len(draws) == 4


def test_weighted_order_shows_people_as_often_as_asked():
    order = weighted_order(0, 0, [10, 20], [2.5, 1])
    counts = np.bincount(order, minlength=30)
    assert counts[:10].sum() == 25 and set(counts[:10]) == {2, 3} and (counts[10:] == 1).all()
    other = weighted_order(0, 1, [10, 20], [2.5, 1])
    assert sorted(order[order >= 10]) == sorted(other[other >= 10]) and list(order) != list(other)
    assert list(order) == list(weighted_order(0, 0, [10, 20], [2.5, 1]))


def test_settings_out_of_range_are_named():
    with pytest.raises(ConfigError, match=r"flip_chance is 1\.5"):
        AugmentConfig(flip_chance=1.5)
    with pytest.raises(ConfigError, match="epoch"):
        weighted_order(0, 0, [4], [0.01])
    with pytest.raises(ConfigError, match="scale is 1"):
        AugmentConfig(scale=1)
