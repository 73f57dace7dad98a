"""Reading COCO keypoint annotations into plain columns; a file with errors is refused, with all of them counted.

N annotations of people, K keypoints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stagepose.coco import jsonfile
from stagepose.coco.clean import clean
from stagepose.coco.parsedfile import ImageInfo, ParsedFile
from stagepose.coco.problems import Problem, as_error, errors
from stagepose.coco.samepicture import is_generated
from stagepose.coco.validate import examine
from stagepose.errors import DatasetError
from stagepose.geometry import xywh_to_xyxy, xyxy_to_xywh
from stagepose.lines import printable
from stagepose.skeleton import COCO_17, Skeleton, map_by_name, target_skeleton

PERSON_CATEGORY = 1  # COCO's id of people, in results and in what we write


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """People of a COCO file, one row per annotation of the person category, in file order, crowds included.

    ``images`` are all of the file, with and without people. Coordinates are pixels of the upright image.
    """

    path: Path | None
    skeleton: Skeleton
    images: tuple[ImageInfo, ...]
    ids: NDArray[np.int64]  # (N,) as in the file: 0 is possible
    image_ids: NDArray[np.int64]  # (N,)
    boxes_xyxy: NDArray[np.float64]  # (N, 4); of a person without keypoints it may be empty
    keypoints: NDArray[np.float64]  # (N, K, 3) x, y, v; 0, 0, 0 where unlabelled
    areas: NDArray[np.float64]  # (N,) of the segment, in pixels; NaN where the file has none
    crowd: NDArray[np.bool_]  # (N,)
    num_keypoints: NDArray[np.int64]  # (N,) counted: v > 0
    raw: dict[str, Any] = field(repr=False)  # the parsed JSON; {} where the set does not come from one
    category_id: int = PERSON_CATEGORY  # of people in the file
    notes: tuple[str, ...] = ()  # what reading without ``strict`` dropped or mended
    own: Skeleton | None = None  # the file's keypoints in its order; None where the set does not come from one
    negative: bool = False  # the rows are boxes of no person: see negatives.py

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shown(self) -> str:
        """What messages call it."""
        return "a set" if self.path is None else printable(self.path)

    @property
    def unread(self) -> tuple[str, ...]:
        """Keypoints of the file that the skeleton lacks."""
        return tuple(name for name in self.own.names if name not in self.skeleton.names) if self.own else ()

    @property
    def strangers(self) -> int:
        """How many annotations of the file are of other categories."""
        return len(self.raw.get("annotations", self.ids)) - len(self)

    @property
    def order_of_results(self) -> tuple[str, ...]:
        """The keypoints as COCO results of this truth list them: in the file's order.

        In the skeleton's where the set does not come from a file, or the file has other keypoints.
        """
        names = self.own.names if self.own else ()
        return names if set(names) == set(self.skeleton.names) else self.skeleton.names

    def with_keypoints(self) -> NDArray[np.bool_]:
        """(N,) who counts as a person of the keypoint task: no crowd, at least one labelled keypoint."""
        return (self.num_keypoints > 0) & ~self.crowd

    def to_learn_from(self) -> NDArray[np.bool_]:
        """(N,) what a pose network is trained on: who counts as a person, or every box of a negative set."""
        return ~self.crowd if self.negative else self.with_keypoints()

    def areas_or_boxes(self, share: float = 1.0) -> NDArray[np.float64]:
        """(N,) of the segments, and where the file has none, ``share`` of the box's."""
        boxes = (self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]).prod(axis=-1)
        return np.where(np.isnan(self.areas), share * boxes, self.areas)

    def sha256(self) -> str | None:
        """Of the file as it is now; None where the set does not come from one."""
        return None if self.path is None else hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def licences(self) -> list[dict[str, Any]]:
        """The file's ``licenses``; none where it has none, or something else in their place."""
        listed = self.raw.get("licenses")
        return listed if isinstance(listed, list) else []

    @cached_property
    def generated(self) -> frozenset[int]:
        """Ids of the images that the file marks ``generated``: rendered, or made of others."""
        marked = {row["id"] for row in self.raw.get("images", ()) if is_generated(self.raw, row)}
        return frozenset(image.id for image in self.images if image.id in marked)

    @cached_property
    def image_by_id(self) -> dict[int, ImageInfo]:
        """The images by their id."""
        return {image.id: image for image in self.images}

    @cached_property
    def raw_images(self) -> dict[int, dict[str, Any]]:
        """What the file says of each image, by id; nothing of those that do not come from one."""
        return {row["id"]: row for row in self.raw.get("images", ())}

    def image_of(self, row: int) -> ImageInfo:
        """The image that a person is in."""
        return self.image_by_id[int(self.image_ids[row])]

    @cached_property
    def rows_by_image(self) -> dict[int, NDArray[np.int64]]:
        """Rows of the people of each image, in file order; images without people have an empty array."""
        rows, nobody = rows_by_id(self.image_ids), np.zeros(0, dtype=np.int64)
        return {image.id: rows.get(image.id, nobody) for image in self.images}


def rows_by_id(ids_N: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """The rows of each id, in their order."""
    order = np.argsort(ids_N, kind="stable")
    found, starts = np.unique(ids_N[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}


def read_dataset(path: str | Path, *, skeleton: Skeleton | None = None, strict: bool = True) -> CocoDataset:
    """Read a COCO annotation file.

    The category's keypoint names decide the order; where they are those of a published skeleton, in any order, the
    people have that skeleton. ``skeleton`` maps them by name onto another; joints the file lacks have v = 0.
    A file with errors raises one :class:`DatasetError` that counts them; with ``strict=False`` it is cleaned as
    ``stagepose check --write-clean`` would, and the set's ``notes`` say what was changed.
    """
    path = Path(path)
    if strict:
        return dataset_of(jsonfile.load_json(path), path, skeleton)
    cleaned = clean(jsonfile.load_json_leniently(path), skeleton=skeleton)
    return _from_table(path, cleaned.table, cleaned.left, skeleton, tuple(cleaned.changes.lines()))


def dataset_of(raw: Any, path: Path, skeleton: Skeleton | None = None) -> CocoDataset:
    """The same, strictly, of JSON that is parsed already; ``path`` is where it comes from."""
    table, problems = examine(raw, skeleton)
    return _from_table(path, table, errors(problems), skeleton)


def _from_table(path: Path, table: ParsedFile, left: Sequence[Problem], wanted: Skeleton | None,
                notes: tuple[str, ...] = ()) -> CocoDataset:
    if left:
        raise as_error(path, left)
    skeleton = wanted or target_skeleton(table.skeleton)
    source_K = map_by_name(table.skeleton, skeleton)
    if (source_K < 0).all():
        raise DatasetError(
            f"{printable(path)}: has keypoints {list(table.skeleton.names)}, none of skeleton {skeleton.name!r} "
            f"{list(skeleton.names)}; give the skeleton of this file, or rename the keypoints in its category"
        )
    keypoints = table.keypoints[:, source_K] * (source_K >= 0)[None, :, None]
    assert table.people.category_id is not None  # otherwise there was an error
    return CocoDataset(
        path=path,
        skeleton=skeleton,
        images=table.images,
        ids=table.ids,
        image_ids=table.image_ids,
        boxes_xyxy=xywh_to_xyxy(table.boxes_xywh),
        keypoints=_unlabelled_as_zero(keypoints),
        areas=table.areas,
        crowd=table.crowd,
        num_keypoints=(keypoints[..., 2] > 0).sum(1),
        raw=table.raw,
        category_id=table.people.category_id,
        notes=notes,
        own=table.skeleton,
    )


def _unlabelled_as_zero(keypoints_NK3: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(keypoints_NK3[..., 2:] > 0, keypoints_NK3, 0.0)


def dataset_from_arrays(
    image_ids: ArrayLike,
    boxes_xyxy: ArrayLike,
    keypoints: ArrayLike,
    *,
    skeleton: Skeleton = COCO_17,
    images: Sequence[ImageInfo] | None = None,
    size: tuple[int, int] = (640, 480),
    areas: ArrayLike | None = None,
    crowd: ArrayLike | None = None,
) -> CocoDataset:
    """A set from columns, for people that come from elsewhere; without ``images`` all have ``size`` (width, height).

    Annotation ids count from 1. Shapes as in :class:`CocoDataset`.
    """
    ids = np.asarray(image_ids, dtype=np.int64)
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    points = np.asarray(keypoints, dtype=np.float64)
    for name, array, shape in (("boxes_xyxy", boxes, (4,)), ("keypoints", points, (len(skeleton), 3))):
        if array.shape != (len(ids), *shape):
            raise DatasetError(f"{name} has shape {array.shape}, expected {(len(ids), *shape)}")
    if images is None:
        images = [ImageInfo(i, f"{i:012d}.jpg", *size) for i in np.unique(ids).tolist()]
    return CocoDataset(
        path=None,
        skeleton=skeleton,
        images=tuple(images),
        ids=np.arange(1, len(ids) + 1),
        image_ids=ids,
        boxes_xyxy=boxes,
        keypoints=_unlabelled_as_zero(points),
        areas=np.full(len(ids), np.nan) if areas is None else np.asarray(areas, dtype=np.float64),
        crowd=np.zeros(len(ids), dtype=bool) if crowd is None else np.asarray(crowd, dtype=bool),
        num_keypoints=(points[..., 2] > 0).sum(1),
        raw={},
    )


def to_json(dataset: CocoDataset) -> dict[str, Any]:
    """COCO JSON of a set's people in its skeleton: what the file said besides (licences, segments) is kept."""
    images = dataset.raw_images
    info = {"info": dataset.raw["info"]} if "info" in dataset.raw else {}
    licences = {"licenses": dataset.raw["licenses"]} if "licenses" in dataset.raw else {}
    return {
        **info,
        **licences,
        "images": [
            {**images.get(i.id, {}), "id": i.id, "file_name": i.file_name, "width": i.width, "height": i.height}
            for i in dataset.images
        ],
        "annotations": annotations_json(dataset),
        "categories": [category_json(dataset.skeleton)],
    }


def annotations_json(dataset: CocoDataset) -> list[dict[str, Any]]:
    """The people as COCO annotations, one per row; an area that is not known is left out."""
    extras = {a["id"]: a for a in dataset.raw.get("annotations", [])}
    boxes = xyxy_to_xywh(dataset.boxes_xyxy).tolist()
    ids, image_ids = dataset.ids.tolist(), dataset.image_ids.tolist()
    rows = []
    for row, number in enumerate(ids):
        extra = {key: value for key, value in extras.get(number, {}).items() if key not in ("area", "s")}
        area = {} if np.isnan(dataset.areas[row]) else {"area": float(dataset.areas[row])}
        rows.append({
            **extra,
            "id": number,
            **person_json(
                image_ids[row],
                extra.get("bbox", boxes[row]),  # the file's own, without the noise of the way there and back
                keypoints_json(dataset.keypoints[row]),
                crowd=bool(dataset.crowd[row]),
                more=area,
            ),
        })
    return rows


def person_json(image_id: int, bbox: Sequence[float], keypoints: Sequence[float], *, crowd: bool = False,
                more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An annotation but for its id: ``bbox`` x, y, width, height; ``keypoints`` as :func:`keypoints_json` has them;

    ``more`` is what else it says, such as its area.
    """
    return {
        "image_id": image_id,
        "category_id": PERSON_CATEGORY,
        "iscrowd": int(crowd),
        "bbox": bbox,
        **(more or {}),
        "keypoints": keypoints,
        "num_keypoints": count_labelled(keypoints),
    }


def keypoints_json(keypoints_K3: NDArray[np.float64]) -> list[float]:
    """The 3 K numbers of an annotation, whole ones without a decimal point."""
    return [int(value) if value.is_integer() else value for value in keypoints_K3.ravel().tolist()]


def count_labelled(keypoints: Sequence[float]) -> int:
    """How many keypoints of such a list have v > 0."""
    return sum(v > 0 for v in keypoints[2::3])


def category_json(skeleton: Skeleton) -> dict[str, Any]:
    """The person category of a skeleton, limbs counted from 1 as COCO does."""
    return {
        "id": PERSON_CATEGORY,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.names),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limb_index],
    }
