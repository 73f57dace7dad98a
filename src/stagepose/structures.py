"""Small frozen values passed between modules; checked and copied once, on construction. N boxes, K keypoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias

import numpy as np

from stagepose.aliases import Float
from stagepose.errors import ConfigError, SkeletonError
from stagepose.skeleton import Skeleton, by_names, target_skeleton

KeepBy: TypeAlias = Literal["score", "size"]  # which people are kept: the highest-scoring, or the largest

SURE_JOINT = 0.3  # score from which a joint counts as found


def _checked(name: str, value: object, shape: tuple[int, ...]) -> Float:
    """A read-only copy: the caller's array stays the caller's."""
    array = _array(name, value)
    if array.shape != shape:
        raise ConfigError(f"{name} has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise ConfigError(f"{name} holds NaN or infinity; every coordinate and score must be finite")
    array.setflags(write=False)
    return array


def _array(name: str, value: object) -> Float:
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}; expected numbers") from error


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Person:
    """One person in one image, in pixels of the upright image (see docs/coordinates.md).

    ``box`` (4,) xyxy; ``keypoints`` (K, 2) xy in the skeleton's order; ``scores`` (K,) in [0, 1]; ``score`` the
    person's, by which results are ranked; ``box_score`` the detector's score of the box; ``track_id`` the identity
    within a video (:class:`stagepose.Tracker`), None in a picture.
    """

    box: Float
    keypoints: Float
    scores: Float
    score: float
    skeleton: Skeleton
    box_score: float = 1.0
    track_id: int | None = None

    def __post_init__(self) -> None:
        count = len(self.skeleton.names)
        object.__setattr__(self, "box", _checked("box", self.box, (4,)))
        object.__setattr__(self, "keypoints", _checked("keypoints", self.keypoints, (count, 2)))
        object.__setattr__(self, "scores", _checked("scores", self.scores, (count,)))
        for name in ("score", "box_score"):
            object.__setattr__(self, name, float(_checked(name, getattr(self, name), ())))
        if self.track_id is not None:
            if not isinstance(self.track_id, Integral):
                raise ConfigError(f"track_id is {self.track_id!r}; it is a whole number, or None")
            object.__setattr__(self, "track_id", int(self.track_id))  # NumPy's integers are no JSON

    def __repr__(self) -> str:
        """Short, since a crowd is a list of them."""
        track = "" if self.track_id is None else f"track_id {self.track_id}, "
        box = " ".join(f"{edge:.0f}" for edge in self.box)
        return f"<Person: {track}score {self.score:.3f}, box {box}, {len(self.skeleton)} keypoints>"

    def __getitem__(self, name: str) -> tuple[float, float, float]:
        """``person["left_wrist"]`` -> (x, y, score); :class:`SkeletonError` if no keypoint has the name."""
        if not isinstance(name, str):
            raise SkeletonError(f"person[{name!r}]: keypoints go by name here, such as {self.skeleton.names[0]!r}; by "
                                f"number there are person.keypoints[{name!r}] and person.scores[{name!r}]")
        index = self.skeleton.index(name)
        x, y = self.keypoints[index]
        return float(x), float(y), float(self.scores[index])

    def angle(self, start: str, middle: str, end: str, *, threshold: float = SURE_JOINT) -> float:
        """The angle in degrees, 0 to 180, at ``middle`` between ``start`` and ``end``, in the image plane.

        ``person.angle("left_shoulder", "left_elbow", "left_wrist")`` is 180 for a straight arm. NaN if one of the three
        scores below ``threshold``, or if a limb has no length. :class:`SkeletonError` if no keypoint has the name,
        :class:`ConfigError` for a threshold outside [0, 1].
        """
        if not is_within(threshold, 0, 1):
            raise ConfigError(f"threshold is {threshold!r}; it is a minimum joint score, between 0 and 1")
        joints = [self.skeleton.index(name) for name in (start, middle, end)]
        (ax, ay), (bx, by) = self.keypoints[[joints[0], joints[2]]] - self.keypoints[joints[1]]
        if (self.scores[joints] < threshold).any() or not (math.hypot(ax, ay) and math.hypot(bx, by)):
            return math.nan
        return math.degrees(math.atan2(abs(ax * by - ay * bx), ax * bx + ay * by))

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, ready for JSON: ``score, box_score, box, keypoints: {name: [x, y, score]}``.

        ``track_id`` too, if the person has one.
        """
        keypoints = {name: list(self[name]) for name in self.skeleton.names}
        track = {} if self.track_id is None else {"track_id": self.track_id}
        return {**track, "score": self.score, "box_score": self.box_score, "box": self.box.tolist(),
                "keypoints": keypoints}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], skeleton: Skeleton | None = None) -> Person:
        """Inverse of :meth:`to_dict`, exact to the last digit; anything else in ``data`` is ignored.

        ``skeleton`` has these keypoints, in any order; by default it is the published one that has them, or one made of
        their names, without limbs to draw. :class:`ConfigError` names what is missing or not a number.
        """
        keypoints = _entry(data, "keypoints")
        if not isinstance(keypoints, Mapping):
            raise ConfigError(f"person: keypoints is a {type(keypoints).__name__}, expected {{name: [x, y, score]}}; "
                              "entries of people.json are for stagepose.coco.person_of_result")
        skeleton = skeleton or target_skeleton(by_names(tuple(map(str, keypoints))))
        if set(keypoints) != set(skeleton.names):
            raise ConfigError(f"person: keypoints are {', '.join(map(str, keypoints))}; those of skeleton "
                              f"{skeleton.name!r} are {', '.join(skeleton.names)}")
        triples = _checked("keypoints", [keypoints[name] for name in skeleton.names], (len(skeleton), 3))
        return cls(box=_entry(data, "box"), keypoints=triples[:, :2], scores=triples[:, 2], score=_entry(data, "score"),
                   skeleton=skeleton, box_score=data.get("box_score", 1.0), track_id=data.get("track_id"))

    def to_row(self) -> dict[str, float]:
        """One flat row for a table: ``score, box_score, x1, y1, x2, y2, nose_x, nose_y, nose_score, ...``.

        ``track_id`` comes first if the person has one. Columns are named as in ``people.csv``.
        """
        track = {} if self.track_id is None else {"track_id": self.track_id}
        box = dict(zip(("x1", "y1", "x2", "y2"), self.box.tolist(), strict=True))
        joints = {f"{name}_{what}": value for name in self.skeleton.names
                  for what, value in zip(("x", "y", "score"), self[name], strict=True)}
        return {**track, "score": self.score, "box_score": self.box_score, **box, **joints}


def _entry(data: object, name: str) -> Any:
    """Of a person as a dict."""
    if not isinstance(data, Mapping) or name not in data:
        raise ConfigError(f"person: has no {name!r}; expected what Person.to_dict gives")
    return data[name]


def is_within(value: object, least: float, most: float = np.inf) -> bool:
    """Whether ``value`` is a number in [least, most]: not text that looks like one, not NaN."""
    return isinstance(value, Real) and least <= float(value) <= most


def require_people(who: str, people: object) -> None:
    """:class:`ConfigError` where ``who`` was given anything but one picture's people, such as a list of lists."""
    if not isinstance(people, Sequence) or not all(isinstance(person, Person) for person in people):
        raise ConfigError(f"{who} needs the people of one picture; a predictor gives a list of them for each picture: "
                          "take predictor(picture)[0]")


def foremost(people: Sequence[Person], limit: int, by: KeepBy) -> list[Person]:
    """The ``limit`` people with the highest scores, or with the largest boxes, in the order of ``people``."""
    worth_N = [person.score if by == "score" else np.prod(person.box[2:] - person.box[:2]) for person in people]
    return [people[n] for n in sorted(np.argsort(-np.array(worth_N), kind="stable")[:limit])]


@dataclass(frozen=True, eq=False, kw_only=True)
class Detections:
    """Person boxes of one image, in any order: ``boxes`` (N, 4) xyxy in its pixels, ``scores`` (N,)."""

    boxes: Float
    scores: Float

    def __post_init__(self) -> None:
        boxes, count = _array("boxes", self.boxes), _array("scores", self.scores).size
        if boxes.size == 0:  # nobody: [] will do
            boxes = boxes.reshape(0, 4)
        object.__setattr__(self, "scores", _checked("scores", self.scores, (count,)))
        object.__setattr__(self, "boxes", _checked("boxes", boxes, (count, 4)))

    def __len__(self) -> int:
        return len(self.scores)

    def best(self, limit: int, threshold: float = 0.0) -> Detections:
        """The ``limit`` best boxes with a score of at least ``threshold``, best first."""
        order = np.argsort(-self.scores, kind="stable")
        keep = order[self.scores[order] >= threshold][:limit]
        return Detections(boxes=self.boxes[keep], scores=self.scores[keep])
