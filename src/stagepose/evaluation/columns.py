"""Keypoint results as columns, checked before anything is measured. M results, K keypoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.coco.dataset import CocoDataset
from stagepose.coco.predictions import check_predictions, columns_of
from stagepose.coco.problems import as_error, errors
from stagepose.oks import COCO_MAX_PEOPLE


@dataclass(frozen=True, eq=False, kw_only=True)
class Found:
    """People that were found, grouped by image and best first, at most 20 per image.

    Images are in the order of their ids, and of equal scores the one listed first comes first, which is how COCO ranks.
    """

    images: NDArray[np.int64]  # (M,) place among the set's image ids in ascending order
    points: NDArray[np.float64]  # (M, K, 2) xy
    scores: NDArray[np.float64]  # (M,) the people's
    listed: int  # results before all but the best 20 of an image were left out
    with_bbox: int  # of those, the ones that carry a `bbox`

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """(M,) of the keypoints' extent: what COCO takes for the size of a false positive."""
        with np.errstate(over="ignore"):  # of points beyond all sense
            by_joint_KM2 = self.points.swapaxes(0, 1)
            return np.asarray((by_joint_KM2.max(axis=0) - by_joint_KM2.min(axis=0)).prod(axis=-1))

    def moved(self, points_MK2: NDArray[np.float64]) -> Found:
        """The same people elsewhere."""
        return replace(self, points=points_MK2)

    def rescored(self, scores_M: NDArray[np.float64]) -> Found:
        """The same people in another order."""
        return replace(self, scores=scores_M).only(np.lexsort((-scores_M, self.images)))

    def joined(self, images_A: NDArray[np.int64], points_AK2: NDArray[np.float64],
               scores_A: NDArray[np.float64]) -> Found:
        """With more people."""
        whole = replace(self, images=np.concatenate([self.images, images_A]),
                        points=np.concatenate([self.points, points_AK2]))
        return whole.rescored(np.concatenate([self.scores, scores_A]))

    def only(self, which: NDArray[Any]) -> Found:
        """Some of them: an index or a mask."""
        return replace(self, images=self.images[which], points=self.points[which], scores=self.scores[which])


def read_found(dataset: CocoDataset, results: list[dict[str, Any]]) -> Found:
    """COCO keypoint results as columns; one :class:`DatasetError` with all that is wrong with them."""
    columns = columns_of(results, dataset)
    if columns is None:
        raise as_error("results", errors(check_predictions(results, dataset)))
    images, scores = np.searchsorted(sorted_image_ids(dataset), columns.image_ids), columns.scores
    order = np.lexsort((-scores, images))  # stable
    starts = np.searchsorted(images[order], images[order])
    order = order[np.arange(len(order)) - starts < COCO_MAX_PEOPLE]
    return Found(images=images[order], points=columns.keypoints[order, :, :2],
                 scores=scores[order], listed=len(results), with_bbox=sum(bool(row.get("bbox")) for row in results))


def sorted_image_ids(dataset: CocoDataset) -> NDArray[np.int64]:
    """(I,) the set's image ids, ascending: COCO's order, by which equal scores of two images are ranked."""
    return np.sort(np.array([image.id for image in dataset.images], dtype=np.int64))
