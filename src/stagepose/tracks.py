"""A track: a person as last seen, where that person should be by now, and how like a track people of a frame are.

Velocities are those between observations, never between guesses (OC-SORT, Cao 2023), and only between observations of
the whole person: of one who goes behind something the box shrinks, and its middle stops. Then the velocity of before
holds. All in seconds: a variable frame rate, or frames left out, change nothing.
N tracks, M people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float
from stagepose.geometry import shared_areas
from stagepose.looks import Look, blended
from stagepose.oks import keypoint_similarity
from stagepose.structures import Person

SMOOTHING_TIME = 0.5  # seconds over which a velocity is averaged
AT_REST = 0.02  # seconds that a new track counts as standing still: two frames a millisecond apart tell no velocity
BUFFER = 0.3  # boxes grow by this share of their sides a second unseen, on every side (C-BIoU, Yang 2023)
LEAST_BUFFER = 0.1
LONGEST_GROWTH = 2.0  # seconds that a box seen in the frame before grows: beyond, it would be anybody's anywhere
WHOLE = 0.75  # of a person's width and height that a box must have to show all of that person
ASIDE = 0.1  # of that width or height, by which the middle of a part lies off,
STRIDE = 0.3  # in so many seconds: between two strides all of a person is narrow, the middle where it should be
LONGEST_PART = 1.5  # seconds after which what is seen of somebody is taken for all of them
SHRINKING = 1.0  # seconds in which a person's size follows smaller boxes
SIGHTING = 0.1  # seconds that a sighting speaks for, where the frame before is not nearer
DOUBT_TIME = 1.0  # seconds over which sure and unsure sightings are weighed: somebody half hidden is unsure for as long
WAYWARD = 0.3  # of a velocity, by which somebody unseen may be slower or faster
LOOK_TIME = 0.75  # seconds over which a look is averaged


@dataclass
class Track:
    """A person as last seen, and that person's motion.

    ``whole`` (4,) xyxy is the box of all of the person at ``time``, where ``person.box`` may be of a part;
    ``velocity`` (2,) in pixels a second.
    """

    person: Person
    time: float
    whole: Float = field(init=False)
    velocity: Float = field(default_factory=lambda: np.zeros(2))
    known: float = AT_REST  # seconds that the velocity is the mean of
    sure: float = 1.0  # share of the time seen, in the last DOUBT_TIME, that the person scored enough to begin a track
    weighed: float = SIGHTING  # seconds that this is the mean of: the first sighting was sure
    look: Look | None = None
    back: float = -np.inf  # when the person last came back into sight

    def __post_init__(self) -> None:
        self.whole, self.begun, self.first_box = self.person.box, self.time, self.person.box
        self.resumed = self.unproven = False  # known again after having been gone; and that by place alone
        self._seen_whole = self.time, centre_of(self.whole)

    def shift(self, time: float) -> Float:
        """(2,) how far the person should have moved since."""
        return self.velocity * (time - self.time)

    def box_at(self, time: float) -> Float:
        """(4,) xyxy, where the box that was last seen should be at a time."""
        return np.asarray(self.person.box + np.tile(self.shift(time), 2))

    def whole_at(self, time: float) -> Float:
        """(4,) xyxy, where all of the person should be at a time."""
        return np.asarray(self.whole + np.tile(self.shift(time), 2))

    @property
    def seen_for(self) -> float:
        """Seconds from the first sight to the last."""
        return self.time - self.begun

    def resume(self, former: Track) -> Track:
        """As somebody who was here before."""
        self.begun, self.look, self.resumed = former.begun, blended(former.look, self.look, 0.5), True
        return self

    @property
    def speed(self) -> float:
        """In pixels a second."""
        return float(np.linalg.norm(self.velocity))

    def beyond(self, time: float, size: Float) -> NDArray[np.bool_]:
        """(4,) at which edges (left, top, right, bottom) of a picture of that size the middle should be outside."""
        centre = centre_of(self.whole_at(time))
        return np.concatenate([centre < 0, centre > size])

    def sure_after(self, sure: bool, elapsed: float) -> float:
        """:attr:`sure` after another sighting, so many seconds after the frame before.

        Frames far apart count as what they are, sightings: one in a second is no second's doubt.
        """
        spoken_for = min(elapsed, SIGHTING)
        return self.sure + spoken_for / (spoken_for + self.weighed) * (sure - self.sure)

    def weigh(self, sure: bool, elapsed: float) -> None:
        """Count a sighting in :attr:`sure`."""
        self.sure = self.sure_after(sure, elapsed)
        self.weighed = min(self.weighed + min(elapsed, SIGHTING), DOUBT_TIME)

    @property
    def still_in_part(self) -> bool:
        """Whether the person has come back into sight, and not been seen whole since."""
        return self.back > self._seen_whole[0]

    def going_to(self, time: float) -> Float:
        """(2,) the middle of the person, had nothing come between since all of that person was seen."""
        since, centre = self._seen_whole
        return np.asarray(centre + self.velocity * (time - since))

    def way_since_whole(self, time: float) -> float:
        """Pixels that the person should have gone since all of that person was seen."""
        return self.speed * (time - self._seen_whole[0])

    def see(self, person: Person, time: float, covered: bool = False, look: Look | None = None) -> None:
        """Go on with the person as found at ``time``; ``covered``: another one's box is in the way."""
        elapsed = time - self.time
        if not covered:
            self.look = blended(self.look, look, min(elapsed, SIGHTING) / (min(elapsed, SIGHTING) + LOOK_TIME))
        box, expected = person.box, self.whole_at(time)
        size, size_seen = size_of(expected), size_of(box)
        unseen = time - self._seen_whole[0]
        narrow = bool((size_seen < WHOLE * size).any())
        aside = bool((np.abs(centre_of(box) - self.going_to(time)) > ASIDE * size).any())
        in_part = covered or (narrow and (aside or unseen < STRIDE))
        size = np.maximum(size_seen, size + elapsed / (elapsed + SHRINKING) * np.minimum(size_seen - size, 0))
        if in_part and unseen < LONGEST_PART:
            around = _around(centre_of(expected), size)
            self.whole = around + np.tile(np.minimum(box - around, 0)[:2] + np.maximum(box - around, 0)[2:], 2)
        else:
            self._learn_velocity(centre_of(box), time)
            self.whole = _around(centre_of(box), size)
        self.person, self.time = person, time

    def _learn_velocity(self, centre: Float, time: float) -> None:
        elapsed = time - self._seen_whole[0]
        seen = (centre - self._seen_whole[1]) / elapsed
        self.velocity = self.velocity + elapsed / (elapsed + self.known) * (seen - self.velocity)
        self.known = min(self.known + elapsed, SMOOTHING_TIME)
        self._seen_whole = time, centre


def similarity(tracks: Sequence[Track], people: Sequence[Person], time: float) -> Float:
    """(N, M) mean of OKS and IoU in [0, 1] of people with tracks, moved to where they should be at ``time``.

    Joints count in the OKS by their scores. Boxes are grown before the IoU, the more the longer a track is unseen, up
    to :data:`LONGEST_GROWTH`; it is the IoU with what was last seen of a person or with all of that person, whichever
    is larger.
    """
    shifts_N2 = np.array([track.shift(time) for track in tracks])
    boxes_N4, wholes_N4 = (np.array([at(track, time) for track in tracks]) for at in (Track.box_at, Track.whole_at))
    boxes_M4 = np.array([person.box for person in people])
    unseen_N = np.array([time - track.time for track in tracks])
    grow_N = (LEAST_BUFFER + BUFFER * np.minimum(unseen_N, LONGEST_GROWTH))[:, None]
    points_NK2 = np.array([track.person.keypoints for track in tracks]) + shifts_N2[:, None]
    points_MK2 = np.array([person.keypoints for person in people])
    weights = np.array([t.person.scores for t in tracks])[:, None] * np.array([p.scores for p in people])[None] + 1e-9
    areas = (area_of(wholes_N4)[:, None] + area_of(boxes_M4)[None]) / 2
    squared = ((points_NK2[:, None] - points_MK2[None]) ** 2).sum(-1)
    close = keypoint_similarity(squared, areas, np.array(people[0].skeleton.sigmas))
    oks = (close * weights).sum(-1) / weights.sum(-1)
    iou = np.maximum(*(_iou(boxes[:, None], boxes_M4[None], grow_N) for boxes in (boxes_N4, wholes_N4)))
    return np.asarray((oks + iou) / 2)


def likelihood_of_return(tracks: Sequence[Track], people: Sequence[Person], time: float, turned: bool = False) -> Float:
    """(N, M) in [0, 1], that people are those of tracks lost from sight, who may come out in part.

    ``turned``: who have turned round meanwhile, and are again where they were last seen.

    The share of a person's box that lies where all of a track's person may be by now, times the rows that both have in
    common, times how near they are to where the track should be.
    """
    wholes_N14 = np.array([track.whole if turned else track.whole_at(time) for track in tracks])[:, None]
    boxes_1M4 = np.array([person.box for person in people])[None]
    unseen_N1 = np.array([time - track.time for track in tracks])[:, None]
    speeds_N2 = np.abs(np.array([track.velocity for track in tracks]))
    size_N2 = size_of(wholes_N14[:, 0])
    room_N2 = LEAST_BUFFER * size_N2 + unseen_N1 * (BUFFER * size_N2 + WAYWARD * speeds_N2)
    reach_N14 = wholes_N14 + np.concatenate([-room_N2, room_N2], -1)[:, None]
    inside_NM = shared_areas(reach_N14, boxes_1M4) / area_of(boxes_1M4)
    shared_rows = np.minimum(wholes_N14, boxes_1M4)[..., 3] - np.maximum(wholes_N14, boxes_1M4)[..., 1]
    all_rows = np.maximum(wholes_N14, boxes_1M4)[..., 3] - np.minimum(wholes_N14, boxes_1M4)[..., 1]
    rows_NM = np.clip(shared_rows, 0, None) / np.maximum(all_rows, 1.0)
    away_NM = np.abs(centre_of(wholes_N14) - centre_of(boxes_1M4))[..., 0] / np.maximum(size_N2 + room_N2, 1.0)[:, :1]
    return np.asarray(inside_NM * rows_NM * np.exp(-away_NM / 2))


def centre_of(boxes: Float) -> Float:
    return np.asarray((boxes[..., :2] + boxes[..., 2:]) / 2)


def size_of(boxes: Float) -> Float:
    return np.asarray(boxes[..., 2:] - boxes[..., :2])


def _around(centre: Float, size: Float) -> Float:
    return np.concatenate([centre - size / 2, centre + size / 2])


def area_of(boxes: Float) -> Float:
    return np.asarray(np.maximum(size_of(boxes).prod(axis=-1), 1.0))


def _iou(a: Float, b: Float, grow: Float) -> Float:
    """Intersection over union of boxes (..., 4), each grown on every side by a share ``grow`` of its size."""
    a, b = (box + grow[..., None] * np.concatenate([-size_of(box), size_of(box)], -1) for box in (a, b))
    shared = shared_areas(a, b)
    return np.asarray(shared / (area_of(a) + area_of(b) - shared))
