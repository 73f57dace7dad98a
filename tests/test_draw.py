"""People over their picture: visible on any background, never in the way of what was not asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stagepose.draw import CENTRE, LEFT, PEOPLE, RIGHT, draw_people
from stagepose.errors import ConfigError
from stagepose.images import read_image
from stagepose.skeleton import COCO_17, SKELETONS, Skeleton
from stagepose.structures import Person


def backdrop(level: int = 128, width: int = 160, height: int = 200) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


def person(skeleton: Skeleton = COCO_17, scale: float = 1.0, **changes: Any) -> Person:
    """Joints well apart on a zigzag: joint k at (30 or 120, 12 + 11 k)."""
    count = len(skeleton)
    xy = np.column_stack([np.where(np.arange(count) % 2, 30.0, 120.0), 12 + 11.0 * np.arange(count)]) * scale
    values = {
        "box": np.array([20, 5, 140, 195]) * scale,
        "keypoints": xy,
        "scores": np.ones(count),
        "score": 1.0,
        "skeleton": skeleton,
    }
    return Person(**{**values, **changes})


def colour_at(picture: NDArray[np.uint8], someone: Person, name: str) -> tuple[int, ...]:
    x, y, _ = someone[name]
    return tuple(int(value) for value in picture[round(y), round(x)])


def is_like(colour: NDArray[np.uint8], wish: tuple[int, int, int]) -> bool:
    """Up to what anti-aliasing mixes in."""
    distances = [np.abs(colour.astype(int) - side).sum() for side in (LEFT, RIGHT, CENTRE, (128, 128, 128))]
    return distances.index(min(distances)) == (LEFT, RIGHT, CENTRE).index(wish)


def test_nobody_changes_nothing_and_the_picture_is_new() -> None:
    picture = backdrop()
    drawn = draw_people(picture, [])
    assert (drawn == picture).all()
    assert not np.shares_memory(drawn, picture)


def test_the_given_picture_stays_as_it_was_even_if_read_only_or_odd() -> None:
    picture = read_image(backdrop()).pixels
    assert (draw_people(picture, [person()]) != picture).any()
    assert (picture == 128).all()
    assert (draw_people(backdrop()[..., ::-1], [person()]) == draw_people(picture, [person()])).all()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_every_joint_and_its_outline_show_on_any_background(level: int) -> None:
    drawn = draw_people(backdrop(level), [person()], boxes=False)
    for name in COCO_17.names:
        side = LEFT if name.startswith("left") else RIGHT if name.startswith("right") else CENTRE
        assert colour_at(drawn, person(), name) == side
    assert (np.abs(drawn.astype(int) - level).max(axis=2) > 100).sum() > 500
    dark = drawn.max(axis=2) < 60
    assert dark.any()


def test_joints_below_the_threshold_and_their_limbs_are_left_out() -> None:
    scores = np.zeros(17)
    scores[9] = 0.3
    faint = person(scores=scores)
    alone = draw_people(backdrop(), [faint], boxes=False)
    assert is_like(np.array(colour_at(alone, faint, "left_wrist")), LEFT)
    y, x = np.nonzero((alone != 128).any(axis=2))
    wrist = faint.keypoints[9]
    assert np.hypot(x - wrist[0], y - wrist[1]).max() < 10, "one disc and nothing else"
    assert (draw_people(backdrop(), [faint], boxes=False, threshold=0.31) == 128).all()


def test_a_joint_that_lost_its_limbs_is_smaller_than_one_that_has_them() -> None:
    large = backdrop(width=640, height=800)

    def disc(*names: str, skeleton: Skeleton = COCO_17) -> int:
        """Pixels around the left wrist, on the side that its forearm does not lead to."""
        scores = np.array([float(name in names) for name in skeleton.names])
        someone = person(skeleton, scale=4, scores=scores)
        x, y, _ = someone["left_wrist"]
        return int((draw_people(large, [someone], boxes=False) != large)[round(y) + 1 :, : round(x)].any(axis=2).sum())

    bare = replace(COCO_17, limbs=())
    assert 0 < disc("left_wrist") < 0.6 * disc("left_wrist", "left_elbow")
    assert disc("left_wrist", skeleton=bare) > disc("left_wrist")  # where there are no limbs at all, none is missed


def test_boxes_can_be_left_out() -> None:
    ghost = person(scores=np.zeros(17))
    assert (draw_people(backdrop(), [ghost], boxes=False) == 128).all()
    drawn = draw_people(backdrop(), [ghost])
    y, x = np.nonzero((drawn != 128).any(axis=2))
    assert (x.min(), y.min(), x.max(), y.max()) == pytest.approx((20, 5, 139, 194), abs=3)
    assert (drawn[60:140, 40:120] == 128).all(), "its inside stays free"


def test_the_better_person_is_in_front_whatever_the_order() -> None:
    good = person(score=0.9)
    poor = person(score=0.1, keypoints=good.keypoints[COCO_17.flip_index])
    one, other = (draw_people(backdrop(), people, boxes=False) for people in ([good, poor], [poor, good]))
    assert (one == other).all()
    assert colour_at(one, good, "left_wrist") == LEFT


def test_a_mirrored_person_is_drawn_as_the_mirrored_picture_with_sides_swapped() -> None:
    picture = backdrop()
    someone = person()
    flipped = someone.keypoints[COCO_17.flip_index] * [-1, 1] + [159, 0]
    box = np.array([160 - 140, 5, 160 - 20, 195])
    mirrored = draw_people(picture, [replace(someone, keypoints=flipped, box=box)], boxes=False)
    straight = draw_people(picture, [someone], boxes=False)
    drawn, turned = ((image != 128).any(axis=2) for image in (straight[:, ::-1], mirrored))
    assert (drawn != turned).sum() < 0.02 * drawn.sum()
    x, y, _ = someone["left_wrist"]
    assert is_like(mirrored[round(y), 159 - round(x)], RIGHT)


@pytest.mark.parametrize("name", sorted(SKELETONS))
def test_every_skeleton_can_be_drawn(name: str) -> None:
    assert (draw_people(backdrop(), [person(SKELETONS[name])]) != 128).any()


def test_a_skeleton_of_bare_points_can_be_drawn() -> None:
    bare = Skeleton(name="bare", names=("tip",))
    drawn = draw_people(backdrop(), [person(bare)], boxes=False)
    assert colour_at(drawn, person(bare), "tip") == CENTRE


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3, 2), (16, 16)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    picture = backdrop(128, *size)
    assert draw_people(picture, [person(scale=size[0] / 160)]).shape == picture.shape


@pytest.mark.parametrize("far", [200.0, 1e4, 1e9, 1e300, -1e300])
def test_points_far_outside_do_no_harm_and_their_limbs_keep_their_direction(far: float) -> None:
    keypoints = np.full((17, 2), 80.0)
    keypoints[9] = far, 80.0  # the left wrist; the left elbow stays at (80, 80)
    box = np.array([-far, -far, far, far])
    drawn = draw_people(backdrop(), [person(keypoints=keypoints, box=np.sort(box))])
    edge = drawn[80, -1] if far > 0 else drawn[80, 0]
    assert is_like(edge, LEFT)
    assert draw_people(backdrop(), [person(keypoints=np.full((17, 2), far))], boxes=False).shape == (200, 160, 3)


def test_limbs_are_thicker_on_larger_people() -> None:
    def ink(scale: float) -> float:
        drawn = draw_people(backdrop(128, 1600, 2000), [person(scale=scale)], boxes=False)
        return float((drawn != 128).any(axis=2).sum() / scale)  # grows with length, so what is left is the width

    assert ink(8) > 1.5 * ink(2)


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_other_arrays_are_refused(picture: Any) -> None:
    with pytest.raises(ConfigError, match=r"needs \(H, W, 3\) uint8 RGB, got"):
        draw_people(picture, [])


@pytest.mark.parametrize("people", [[[person()]], [[]], person(), ["anna"]])
def test_people_of_several_pictures_are_not_those_of_one(people: Any) -> None:
    with pytest.raises(ConfigError, match=r"the people of one picture.*\[0\]"):
        draw_people(backdrop(), people)


def test_a_path_is_not_yet_a_picture() -> None:
    with pytest.raises(ConfigError, match=r"got a str; read_image\("):
        draw_people("photo.jpg", [person()])  # type: ignore[arg-type]


def moved(someone: Person, x: float, y: float, **changes: Any) -> Person:
    shift = np.array([x, y])
    return replace(someone, keypoints=someone.keypoints + shift, box=someone.box + np.tile(shift, 2), **changes)


def row_of_people() -> list[Person]:
    """Three side by side, in 480 pixels."""
    return [moved(person(), 160 * n, 0, score=0.9 - n / 10) for n in range(3)]


def written(picture: NDArray[np.uint8], people: list[Person], labels: Any) -> NDArray[np.bool_]:
    """Where a picture of them with ``labels`` is another than one without."""
    drawn, bare = (draw_people(picture, people, labels=each) for each in (labels, "none"))
    return np.asarray((drawn != bare).any(axis=2))


def test_each_of_several_people_has_its_number_and_its_score_where_wanted() -> None:
    picture, people = backdrop(width=480), row_of_people()
    numbers, scores = (written(picture, people, labels) for labels in ("number", "score"))
    assert all(numbers[:, 160 * n : 160 * n + 160].any() for n in range(3)) and scores.sum() > 2 * numbers.sum()
    assert (numbers != written(picture, people[::-1], "number")).any()  # the place in the list, whatever the score
    assert (draw_people(picture, people) == draw_people(picture, people, labels="number")).all()
    assert not written(picture, people[:1], "number").any() and written(picture, people[:1], "score").any()
    boxless = [draw_people(picture, people, labels=labels, boxes=False) for labels in ("score", "none")]
    assert (boxless[0] == boxless[1]).all()


@pytest.mark.parametrize("level", [0, 128, 245, 255])
def test_a_label_is_light_with_a_dark_outline_on_any_background(level: int) -> None:
    people = row_of_people()
    label = draw_people(backdrop(level, width=480), people)[written(backdrop(width=480), people, "number")]
    assert (label.min(axis=1) > 200).sum() > 20 and (label.max(axis=1) < 60).sum() > 20


def test_a_label_hides_no_face_that_it_need_not_hide() -> None:
    """A small one's face fills the upper left corner of the box; below another one stands."""
    small = person(scale=0.2, keypoints=np.full((17, 2), 67.0) + np.arange(17)[:, None] % 4,
                   box=np.array([64, 61, 88, 99]))
    other = moved(small, 0, 50)
    place = written(backdrop(), [small, other], "score")
    for x, y in np.concatenate([small.keypoints, other.keypoints]):
        assert not place[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4].any()


def test_labels_of_a_crowd_do_not_lie_upon_each_other() -> None:
    picture, someone = backdrop(width=400, height=400), moved(person(), 100, 100)
    ink = [written(picture, [someone] * people, "number").sum() for people in range(2, 7)]  # all in one place
    assert min(np.diff(ink)) > 0.6 * ink[0] / 2


def test_labels_are_smaller_on_smaller_people_and_never_too_small_to_read() -> None:
    heights = []
    for scale in (0.1, 0.5, 8):
        large = backdrop(width=1400, height=1700)
        rows = np.flatnonzero(written(large, [person(scale=scale)], "score").any(axis=1))
        heights.append(np.ptp(rows) + 1)
    assert 9 <= heights[0] == heights[1] < 18 < heights[2]


def test_a_track_id_stands_in_the_corner_of_the_box_whatever_it_hides_so_that_it_does_not_jump() -> None:
    first, second = (written(backdrop(), [person(track_id=name)], "number") for name in (1, 2))
    assert (first != second).any()
    assert not written(backdrop(), [person()], "number").any()
    corner = person(track_id=1, keypoints=np.tile([30.0, 15.0], (17, 1)))
    for someone in (person(track_id=1), corner):
        rows, columns = np.nonzero(written(backdrop(), [someone], "number"))
        assert rows.max() < 40 and columns.max() < 60
    for box in ([-1e6, -1e6, -9e5, -9e5], [1e6, 1e6, 2e6, 2e6], [-50, -50, 500, 500]):
        draw_people(backdrop(width=9, height=9), [person(track_id=12345, box=np.array(box, float))])


@pytest.mark.parametrize("labels", ["name", None, True, ["number"]])
def test_labels_that_are_none_are_refused(labels: Any) -> None:
    with pytest.raises(ConfigError, match=r"labels is .*; use 'number', 'score' or 'none'"):
        draw_people(backdrop(), [], labels=labels)


@pytest.mark.parametrize("size", [(4000, 3000), (8000, 900)])
def test_a_small_person_in_a_large_picture_is_a_figure_not_a_blot(size: tuple[int, int]) -> None:
    """Between its limbs the picture is still seen: a leg is a leg, however large the picture is."""
    small = person(box=np.array([20, 5, 140, 195]))  # joints 11 pixels apart from row to row
    drawn = draw_people(backdrop(128, *size), [small], boxes=False)
    alone = draw_people(backdrop(128, 160, 200), [small], boxes=False)
    inside, lonely = ((picture[5:195, 20:140] != 128).any(axis=2).mean() for picture in (drawn, alone))
    assert lonely <= inside < 1.6 * lonely


def test_people_may_have_a_colour_each_which_a_track_keeps() -> None:
    left, aside = person(), np.array([2000, 0])
    right = person(keypoints=left.keypoints + aside, box=left.box + np.tile(aside, 2))
    drawn = draw_people(backdrop(128, 2200, 200), [left, right], boxes=False, colours="person")
    for number, someone in enumerate((left, right)):
        assert {colour_at(drawn, someone, name) for name in COCO_17.names} == {PEOPLE[number]}
    third = replace(left, track_id=len(PEOPLE) + 3)
    drawn = draw_people(backdrop(), [third], boxes=False, colours="person")
    assert colour_at(drawn, third, "nose") == PEOPLE[2]
    assert len(set(PEOPLE)) == len(PEOPLE)


def test_colours_of_ones_own() -> None:
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    drawn = draw_people(backdrop(), [person()], boxes=False, colours=[red, green, blue])
    found = [colour_at(drawn, person(), name) for name in ("left_wrist", "right_wrist", "nose")]
    assert found == [red, green, blue]
    drawn = draw_people(backdrop(), [person()], boxes=False, colours=np.array([red]))
    assert {colour_at(drawn, person(), name) for name in COCO_17.names} == {red}


@pytest.mark.parametrize("colours", ["rainbow", [], [(1, 2)], [(1, 2, 300)], [(1, 2, 3), (1, 2, 3)], [(1, 2, 3), (1,)],
                                     [(0.5, 0.5, 0.5)], None])
def test_colours_that_are_none_are_refused(colours: Any) -> None:
    with pytest.raises(ConfigError, match=r"colours is .*; use 'side', 'person', or RGB triples"):
        draw_people(backdrop(), [person()], colours=colours)
    with pytest.raises(ConfigError, match="colours is"):  # in a picture of nobody too
        draw_people(backdrop(), [], colours=colours)


def test_thickness_is_a_factor() -> None:
    def ink(thickness: float) -> int:
        drawn = draw_people(backdrop(128, 1600, 2000), [person(scale=8)], thickness=thickness)
        return int((drawn != 128).any(axis=2).sum())

    assert 0.4 * ink(1) < ink(0.5) < 0.6 * ink(1) < ink(2) / 3
    with pytest.raises(ConfigError, match="thickness is 0"):
        draw_people(backdrop(), [person()], thickness=0)
    with pytest.raises(ConfigError, match="thickness is '2'; it is a factor"):
        draw_people(backdrop(), [person()], thickness="2")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"threshold is '0\.5'; it is a minimum joint score"):
        draw_people(backdrop(), [person()], threshold="0.5")  # type: ignore[arg-type]


def test_what_read_image_gives_can_be_drawn_on() -> None:
    picture = read_image(backdrop())
    assert (draw_people(picture, [person()]) == draw_people(picture.pixels, [person()])).all()


def test_joints_that_score_below_hollow_are_rings_around_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (800, 640, 3), dtype=np.uint8)
    scores = np.where(np.arange(17) % 3 == 0, 0.6, 1.0)
    scores[16] = 0
    big = person(scale=4, scores=scores)
    drawn, full = (draw_people(picture, [big], boxes=False, hollow=hollow) for hollow in (1.0, 0.0))
    for name, score in zip(COCO_17.names, scores, strict=True):
        x, y = (round(value) for value in big[name][:2])
        side = LEFT if name.startswith("left") else RIGHT if name.startswith("right") else CENTRE
        around = drawn[y - 14 : y + 15, x - 14 : x + 15].reshape(-1, 3)
        if score == 1:
            assert colour_at(drawn, big, name) == side
        elif score:
            assert (drawn[y - 1 : y + 2, x - 1 : x + 2] == picture[y - 1 : y + 2, x - 1 : x + 2]).all()
            assert (around == side).all(1).sum() > 20 and colour_at(full, big, name) == side
        else:
            assert not (around == side).all(1).any()
    far = person(keypoints=np.tile([1e300, -7.0], (17, 1)), scores=np.full(17, 0.6))
    assert (draw_people(picture, [far], boxes=False, hollow=1.0) == picture).all()
    with pytest.raises(ConfigError, match="hollow is 'all'; it is a minimum joint score, between 0 and 1"):
        draw_people(picture, [big], hollow="all")  # type: ignore[arg-type]
