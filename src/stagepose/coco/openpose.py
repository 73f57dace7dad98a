"""People in OpenPose's order and JSON, for the tools that read those (Pose2Sim, ControlNet and many a lab's own).

Layouts and fields: OpenPose's documentation, doc/02_output.md (CMU-Perceptual-Computing-Lab/openpose).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stagepose.errors import ConfigError
from stagepose.geometry import Float

# Neck and middle of the hips are the means of two of COCO's joints; its people have no feet
_HEAD_AND_ARMS = ("nose", ("left_shoulder", "right_shoulder"), "right_shoulder", "right_elbow", "right_wrist",
                  "left_shoulder", "left_elbow", "left_wrist")
_LEGS = ("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle")
_FACE = ("right_eye", "left_eye", "right_ear", "left_ear")
_FEET = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
LAYOUTS: dict[str, tuple[str | tuple[str, str], ...]] = {
    "body25": (*_HEAD_AND_ARMS, ("left_hip", "right_hip"), *_LEGS, *_FACE, *_FEET),
    "coco18": (*_HEAD_AND_ARMS, *_LEGS, *_FACE),
}
VERSION = 1.3  # of the JSON
NOBODY = -1  # a person_id that is not known
_OTHER_PARTS = ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "pose_keypoints_3d",
                "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d")


def rearranged(keypoints_K3: Float, names: Sequence[str], layout: str, *, least: float = 0.0) -> Float:
    """(L, 3) x, y, score in the order of ``layout``, 0, 0, 0 for what scores less than ``least`` or has no such joint.

    A middle scores what the worse of its two joints does. :class:`ConfigError` for another layout, and where none of
    ``names`` is a joint of COCO's.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"layout is {layout!r}; use one of {', '.join(LAYOUTS)}")
    places = {name: place for place, name in enumerate(names)}
    sources = [(part, part) if isinstance(part, str) else part for part in LAYOUTS[layout]]
    if not any(name in places for pair in sources for name in pair):
        raise ConfigError(f"none of the keypoints {', '.join(names)} is one of COCO's, which OpenPose's are made of")
    out = np.zeros((len(sources), 3))
    for row, pair in enumerate(sources):
        if all(name in places for name in pair):
            both = keypoints_K3[[places[name] for name in pair]]
            out[row] = *both[:, :2].mean(axis=0), both[:, 2].min()
    out[(out[:, 2] < least) | (out[:, 2] <= 0)] = 0
    return out


def document(people: Sequence[tuple[Float, int | None]]) -> dict[str, Any]:
    """The JSON of one picture: people as :func:`rearranged` gives them, each with its id or None."""
    return {"version": VERSION, "people": [
        {"person_id": [NOBODY if who is None else who],
         "pose_keypoints_2d": [round(float(value), 4) for value in points.ravel()],
         **{part: [] for part in _OTHER_PARTS}}
        for points, who in people]}
