"""Pictures by pasting: who is cut out, into which scene, how large, and before whom.

N people of the set, K keypoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.claims import contents_digest
from stagepose.coco import CocoDataset, images_folder, read_dataset
from stagepose.coco.segments import segment_fault
from stagepose.errors import ConfigError, DatasetError
from stagepose.extend.made import Made, Refused, Source, notes_of, refuse_unfit, source_of
from stagepose.extend.paste.body import body_mask
from stagepose.extend.paste.cutting import Cutout, cut_out, root_of
from stagepose.extend.paste.scene import Figure, Scene
from stagepose.extend.paste.segments import mask_of
from stagepose.geometry import Affine, Float, covered_shares, resize_affine
from stagepose.images import read_image
from stagepose.making import scenes_in
from stagepose.skeleton import VISIBLE, Skeleton

LONGEST = 640  # pixels of a scene's longer side: larger pictures are made smaller
LEAST_JOINTS = 6  # visible keypoints of whoever is cut out
LEAST_HEIGHT = 64  # pixels of the box of whoever is cut out, and of whoever is pasted
CROWDED = 0.15  # share of the box that other people's boxes may cover, where no segment says who is who
TRIES = 12  # people tried for one place
NEIGHBOURS = (0.7, 1.4)  # times as high as a person of the scene
ALONE = (0.35, 0.9)  # of the scene's height, where there is nobody to compare with
GROWN = 1.6  # times larger at most: more would be a blur
LEAST_IN_FRAME = 0.6  # share of a cut-out that lies inside the picture


@dataclass(frozen=True, kw_only=True)
class PasteConfig:
    """At most so many ``people`` are pasted into a picture; ``over`` is the chance that one is put before somebody.

    ``empty`` is the chance that a scene is a picture without people, where there are such.
    """

    people: int = 3
    over: float = 0.7
    empty: float = 0.3
    mirror: float = 0.5  # chance to be shown mirrored; 0 for skeletons without flip_pairs

    def __post_init__(self) -> None:
        if not 1 <= self.people <= 12:
            raise ConfigError(f"people is {self.people}; expected 1 to 12 in a picture")
        for name in ("over", "empty", "mirror"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a chance from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class PasteRecipe:
    """A set's people, its own pictures and ``negatives`` (a folder of pictures without people) as scenes."""

    data: Path
    negatives: Path | None = None
    seed: int = 0
    config: PasteConfig = field(default_factory=PasteConfig)
    by: str = field(default="paste", init=False)
    taught_by: frozenset[str] = field(default=frozenset(), init=False)

    @cached_property
    def dataset(self) -> CocoDataset:
        """The set."""
        return read_dataset(self.data)

    @cached_property
    def people(self) -> NDArray[np.int64]:
        """Rows of those who can be cut out."""
        return can_be_cut(self.dataset)

    @property
    def broken_segments(self) -> tuple[int, str]:
        """How many people's segments nothing can be cut out by, and what is wrong with the first."""
        faults = [(row["id"], fault) for row in _outlined(self.dataset) if (fault := _fault(self.dataset, row))]
        return len(faults), f"annotation {faults[0][0]}: {faults[0][1]}" if faults else ""

    @property
    def skeleton(self) -> Skeleton:
        """The set's."""
        return self.dataset.skeleton

    @property
    def licences(self) -> Sequence[Mapping[str, Any]]:
        """The set's."""
        return self.dataset.licences

    @cached_property
    def empty_scenes(self) -> tuple[Path, ...]:
        """Pictures without people."""
        return () if self.negatives is None else scenes_in(self.negatives, "--negatives")

    def check(self) -> None:
        """:class:`DatasetError` where nobody can be cut out, or a picture would not fit its labels."""
        refuse_unfit(self.dataset, images_folder(self.data))
        if not len(self.people):
            raise DatasetError(f"{self.dataset.shown}: nobody in it can be cut out; that takes {LEAST_JOINTS} visible "
                               f"keypoints, a box {LEAST_HEIGHT} pixels high, and no other people's boxes over it")
        if len(self.dataset.images) == 1 and not self.empty_scenes:
            raise DatasetError(f"{self.dataset.shown}: has one picture only, and people are pasted into others "
                               "than their own; give pictures without people with --negatives, or a larger set")

    def identity(self) -> dict[str, Any]:
        """By content, not by place: the set's file, the negatives, the settings."""
        return {"data": contents_digest([self.data]), "negatives": contents_digest(self.empty_scenes),
                **asdict(self.config)}

    def maker(self) -> PasteMaker:
        """Ready to paste."""
        return PasteMaker(self)


def can_be_cut(dataset: CocoDataset) -> NDArray[np.int64]:
    """Rows of people whom a matte can be found for: large, with visible keypoints, alone unless they have a segment."""
    height_N = dataset.boxes_xyxy[:, 3] - dataset.boxes_xyxy[:, 1]
    seen_N = (dataset.keypoints[..., 2] == VISIBLE).sum(1)
    segments = _segments(dataset)
    fit_N = (height_N >= LEAST_HEIGHT) & (seen_N >= LEAST_JOINTS) & dataset.with_keypoints()
    return np.array([row for row in np.flatnonzero(fit_N).tolist()
                     if segments.get(int(dataset.ids[row])) or _covered(dataset, row) <= CROWDED], dtype=np.int64)


def _segments(dataset: CocoDataset) -> dict[int, Any]:
    """Segments by annotation id, of those who have a sound one."""
    return {row["id"]: row["segmentation"] for row in _outlined(dataset) if not _fault(dataset, row)}


def _outlined(dataset: CocoDataset) -> Iterator[dict[str, Any]]:
    """The people's rows of the file that have a segment, sound or not."""
    return (row for row in dataset.raw.get("annotations", ())
            if row["category_id"] == dataset.category_id and row.get("segmentation"))


def _fault(dataset: CocoDataset, row: dict[str, Any]) -> str:
    image = dataset.image_by_id[row["image_id"]]
    return segment_fault(row["segmentation"], (image.height, image.width))


def _covered(dataset: CocoDataset, row: int) -> float:
    """The largest share of a person's box that another's covers."""
    rows = dataset.rows_by_image[int(dataset.image_ids[row])]
    others = dataset.boxes_xyxy[rows[rows != row]]
    return float(covered_shares(dataset.boxes_xyxy[row][None], others).max(initial=0.0))


class PasteMaker:
    """See :class:`stagepose.extend.made.Maker`."""

    def __init__(self, recipe: PasteRecipe) -> None:
        self.dataset, self.images, self.config = recipe.dataset, images_folder(recipe.data), recipe.config
        self.seed, self.empty = recipe.seed, recipe.empty_scenes
        self._people, self._segments = recipe.people, _segments(self.dataset)

    def make(self, numbers: Sequence[int]) -> list[Made | Refused]:
        """One picture after the other."""
        return [self._one(np.random.default_rng([self.seed, number])) for number in numbers]

    def _one(self, rng: np.random.Generator) -> Made | Refused:
        scene, sources, notes, image = self._scene(rng)
        wanted = int(rng.integers(1, self.config.people + 1))
        for row, cutout in self._cutouts(rng, wanted, without=image):
            placed = self._placed(rng, scene, cutout)
            if placed is not None:
                pasted, left, top = placed
                source = source_of(self.dataset, row)
                scene.paste(pasted, left, top, {"source": source.to_json()})
                sources.append(source)
        people = tuple(person for figure in scene.figures if (person := figure.labelled()) is not None)
        if not any(person.new for person in people):
            return Refused("nobody could be pasted so that anything is seen of them")
        return Made(scene.pixels, people, tuple(sources), notes)

    # --- the scene

    def _scene(self, rng: np.random.Generator) -> tuple[Scene, list[Source], dict[str, Any], int | None]:
        """A picture without people or one of the set, its source, what its row says, and its id in the set."""
        if self.empty and rng.random() < self.config.empty:
            file = self.empty[int(rng.integers(len(self.empty)))]
            pixels, _ = _shrunk(read_image(file).pixels)
            return Scene(pixels, []), [Source(file.name)], {}, None
        image = self.dataset.images[int(rng.integers(len(self.dataset.images)))]
        pixels, shrunk = _shrunk(read_image(self.images / image.file_name).pixels)
        rows = self.dataset.rows_by_image[image.id].tolist()
        rows.sort(key=lambda row: self.dataset.boxes_xyxy[row, 3])  # whose feet are lower stands before the others
        figures = [self._figure(row, shrunk, pixels.shape[:2]) for row in rows]
        source = Source(image.file_name, licence=self.dataset.raw_images[image.id].get("license"))
        return Scene(pixels, figures), [source], notes_of(self.dataset, image.id), image.id

    def _figure(self, row: int, shrunk: Affine, size: tuple[int, int]) -> Figure:
        dataset, (height, width) = self.dataset, size
        keypoints = dataset.keypoints[row].copy()
        keypoints[:, :2] = shrunk.points(keypoints[:, :2]) * (keypoints[:, 2:] > 0)
        box = shrunk.boxes(dataset.boxes_xyxy[row])[0].clip(0, (width, height, width, height))
        image = dataset.image_of(row)
        mask = mask_of(self._segments.get(int(dataset.ids[row])), image.height, image.width)
        exact = mask is not None and not dataset.crowd[row]
        if mask is None or not exact:
            mask = _guess(keypoints, box, self.dataset.skeleton, height, width)
        elif mask.shape != size:
            mask = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA) > 0
        area = float(dataset.areas[row]) * abs(float(np.linalg.det(shrunk.matrix[:, :2])))
        if np.isnan(area):
            area = float(mask.sum())
        return Figure(keypoints, box, area, mask, guessed=not exact, new=False, crowd=bool(dataset.crowd[row]),
                      notes={"source": source_of(dataset, row).to_json()})

    # --- who is pasted, how large and where

    def _cutouts(self, rng: np.random.Generator, wanted: int, without: int | None) -> Iterator[tuple[int, Cutout]]:
        """So many people of other pictures, for whom a matte was found."""
        for _ in range(wanted):
            for _ in range(TRIES):
                row = int(rng.choice(self._people))
                if int(self.dataset.image_ids[row]) == without:
                    continue
                cutout = self._cut(row)
                if cutout is not None:
                    yield row, cutout
                    break

    def _cut(self, row: int) -> Cutout | None:
        dataset = self.dataset
        image = dataset.image_of(row)
        others = [dataset.keypoints[other] for other in dataset.rows_by_image[image.id].tolist() if other != row]
        return cut_out(read_image(self.images / image.file_name).pixels, dataset.boxes_xyxy[row],
                       dataset.keypoints[row], self._segments.get(int(dataset.ids[row])), dataset.skeleton, others)

    def _placed(self, rng: np.random.Generator, scene: Scene, cutout: Cutout) -> tuple[Cutout, int, int] | None:
        """The cut-out at its size, and its corner; None where it finds no place within the frame."""
        height, width = scene.pixels.shape[:2]
        people = [figure for figure in scene.figures if not figure.crowd and figure.keypoints[:, 2].any()]
        before = people[int(rng.integers(len(people)))] if people and rng.random() < self.config.over else None
        tall = rng.uniform(*ALONE) * height
        if people:
            near = before or people[int(rng.integers(len(people)))]
            tall = rng.uniform(*NEIGHBOURS) * _height(near)
        scale = float(np.clip(tall, LEAST_HEIGHT, 1.2 * height)) / cutout.matte.shape[0]
        mirrored = bool(self.dataset.skeleton.flip_pairs) and rng.random() < self.config.mirror
        sized = cutout.resized(min(scale, GROWN), mirrored, self.dataset.skeleton)
        if not sized.covers.any():  # a segment as thin as a hair
            return None
        for _ in range(TRIES):
            left, top = self._corner(rng, sized, before, width, height)
            shown = float(scene.matte_of(sized, left, top).sum()) / float(sized.covers.sum())
            if shown >= LEAST_IN_FRAME:
                return sized, left, top
        return None

    def _corner(self, rng: np.random.Generator, cutout: Cutout, before: Figure | None, width: int,
                height: int) -> tuple[int, int]:
        """Any place; or such that one of its pixels lies on a keypoint of the person it is put before."""
        h, w = cutout.matte.shape
        if before is None:
            return int(rng.integers(-w // 4, width - w + w // 4 + 1 if width > w // 2 else 1)), int(
                rng.integers(-h // 8, height - h + h // 4 + 1 if height > h * 7 // 8 else 1))
        hit = before.keypoints[rng.choice(np.flatnonzero(before.keypoints[:, 2])), :2]
        rows, columns = np.nonzero(cutout.covers)
        pixel = int(rng.integers(len(rows)))
        return round(float(hit[0])) - int(columns[pixel]), round(float(hit[1])) - int(rows[pixel])


def _height(figure: Figure) -> float:
    """Of a person of the scene, in pixels."""
    if figure.box_xyxy.any():
        return float(figure.box_xyxy[3] - figure.box_xyxy[1])
    return float(np.ptp(np.flatnonzero(figure.mask.any(axis=1)))) if figure.mask.any() else float(LEAST_HEIGHT)


def _shrunk(pixels_HW3: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Affine]:
    """A scene of LONGEST pixels at most, and the way there."""
    height, width = pixels_HW3.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        pixels_HW3 = np.asarray(cv2.resize(pixels_HW3, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return pixels_HW3, resize_affine((width, height), size)


def _guess(keypoints_K3: Float, box_xyxy: Float, skeleton: Skeleton, height: int, width: int) -> NDArray[np.bool_]:
    """(H, W) the body along the skeleton inside the box; the whole box where there are no keypoints."""
    x1, y1, x2, y2 = np.round(box_xyxy).astype(int).clip(0)
    inside = np.zeros((height, width), dtype=bool)
    inside[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = True
    if not (keypoints_K3[:, 2] > 0).any():
        return inside
    body = body_mask(keypoints_K3, root_of(box_xyxy), skeleton, height, width) & inside
    return body if body.any() else inside
