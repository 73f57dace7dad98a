"""Labels of a data set drawn over its pictures: hidden joints as rings, crowds as dashed frames.

N people, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.coco import CocoDataset
from stagepose.draw import draw_crowds, draw_people
from stagepose.geometry import Float, resize_affine
from stagepose.skeleton import Skeleton
from stagepose.structures import Person

SCORES = np.array([0.0, 0.6, 1.0])  # by v: drawing leaves out what is not labelled, and makes a ring of what is hidden
SEEN = SCORES[2]


def labelled_person(keypoints_K3: Float, box: Float, skeleton: Skeleton) -> Person:
    """One person of keypoints x, y, v and a box (xyxy edges), in the same pixels."""
    return Person(box=box, keypoints=keypoints_K3[:, :2], scores=SCORES[keypoints_K3[:, 2].astype(int)], score=1.0,
                  skeleton=skeleton)


def draw_labelled(pixels_HW3: NDArray[np.uint8], people: Sequence[Person], *, boxes: bool = True,
                  thickness: float = 1.0) -> NDArray[np.uint8]:
    """A new picture with people of :func:`labelled_person` on it, the last in front."""
    return draw_people(pixels_HW3, people, boxes=boxes, thickness=thickness, hollow=SEEN, labels="none")


def draw_labels(pixels_HW3: NDArray[np.uint8], dataset: CocoDataset, image_id: int,
                enlarged: int = 1) -> NDArray[np.uint8]:
    """A new picture, ``enlarged`` by a factor, with all its labels in a set's file, the smallest people in front.

    People without a labelled keypoint get only their box.
    """
    height, width = pixels_HW3.shape[:2]
    size = (width * enlarged, height * enlarged)
    place, rows = resize_affine((width, height), size), dataset.rows_by_image[image_id]
    boxes, points = place.boxes(dataset.boxes_xyxy[rows]), dataset.keypoints[rows]
    points[..., :2] = place.points(points[..., :2])
    crowd, labelled, areas = dataset.crowd[rows], dataset.num_keypoints[rows] > 0, (boxes[:, 2:] - boxes[:, :2]).prod(1)
    people = [labelled_person(points[n], boxes[n], dataset.skeleton) for n in np.argsort(-areas, kind="stable")
              if not crowd[n] and (labelled[n] or areas[n])]
    if enlarged > 1:
        pixels_HW3 = np.asarray(cv2.resize(pixels_HW3, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    return draw_labelled(draw_crowds(pixels_HW3, boxes[crowd]), people)
