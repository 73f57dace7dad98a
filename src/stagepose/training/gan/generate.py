"""People in new poses, for :mod:`stagepose.extend`: limbs carried, the photo repaired, the labels known.

A picture is what a crop of the person shows, with context, at the network's scale: only the limbs, what was behind them
and what is now under them are painted, everything else is the photo's. K keypoints, C chains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagepose.claims import contents_digest
from stagepose.coco import CocoDataset, images_folder, read_dataset
from stagepose.coco.clean import AREA_OF_BOX
from stagepose.errors import ConfigError, DatasetError
from stagepose.extend import Made, MadePerson, Refused
from stagepose.extend.made import notes_of, refuse_unfit, source_of
from stagepose.geometry import Affine, Float, Size, crop_affine
from stagepose.images import read_image
from stagepose.making import in_picture
from stagepose.runfiles import STAGES
from stagepose.skeleton import Skeleton
from stagepose.training.checkpoint import digest
from stagepose.training.cutting import canvas_box
from stagepose.training.gan.build import load_generator, read_config
from stagepose.training.gan.carry import carry_to, covered
from stagepose.training.gan.limbs import Limbs, limbs_of
from stagepose.training.gan.losses import HALF
from stagepose.training.gan.moving import move_limbs, pose_maps
from stagepose.training.gan.poses import NewPose, Poses, learn_poses
from stagepose.training.gan.task import repair, to_pixels
from stagepose.training.machine import use_threads
from stagepose.training.networks.repair import RepairNet
from stagepose.training.randomness import Orders, generator, weighted_order
from stagepose.training.store import CropSpec
from stagepose.training.table import Table

FADE = 4.0  # pixels in which a repair ends before the border of the network's picture: no edge shows in the context
SMALLEST = 2.0  # pixels of a bystander's box that is worth saying
MILDEST = 0.05  # chance of a person who is found perfectly to lend a pose, of one who is not found at all: where --hard


@dataclass(frozen=True, kw_only=True)
class GanRecipe:
    """The photos, the run whose generator repairs, and the stage-by-stage run that says whose poses are hard."""

    data: Path
    run: Path  # of 'stagepose gan train'
    seed: int = 0
    hard: Path | None = None
    device: str = "cpu"
    by: str = "gan"

    @cached_property
    def skeleton(self) -> Skeleton:
        """The one that the run was trained with."""
        return read_config(self.run)[1]

    @cached_property
    def dataset(self) -> CocoDataset:
        """All people of the file, mapped onto the skeleton."""
        return read_dataset(self.data, skeleton=self.skeleton)

    @cached_property
    def areas(self) -> Float:
        """(N,) of the people, estimated where the file has none."""
        return self.dataset.areas_or_boxes(AREA_OF_BOX)

    @cached_property
    def poses(self) -> Poses:
        """What the people of the set can do; crowds show nothing."""
        shown = np.where(self.dataset.with_keypoints()[:, None, None], self.dataset.keypoints, 0)
        try:
            return learn_poses(shown, self.areas, limbs_of(self.skeleton), self.donor_weights())
        except DatasetError as error:
            raise DatasetError(f"{self.data}: {error}") from None

    @property
    def licences(self) -> Sequence[Mapping[str, Any]]:
        """Of the photos."""
        return self.dataset.licences

    @property
    def taught_by(self) -> frozenset[str]:
        """The frozen pose network of the training, where it came from a model file."""
        teacher = read_config(self.run)[2].get("teacher") or {}
        return frozenset({teacher["sha256"]} if teacher.get("sha256") else ())

    def check(self) -> None:
        """:class:`DatasetError` where there are no poses to learn from, or a photo would not fit its labels."""
        refuse_unfit(self.dataset, images_folder(self.data))
        _ = self.poses  # says itself why there are none

    def identity(self) -> dict[str, Any]:
        """Photos' labels, weights and hard poses by their digests."""
        hard = None if self.hard is None else contents_digest([self._table_file])
        weights = digest(load_generator(self.run).state_dict())[:16]
        return {"data": contents_digest([self.data]), "weights": weights, "hard": hard}

    def maker(self) -> GanMaker:
        """With the generator in memory."""
        if torch.device(self.device).type == "cpu":
            use_threads(1)  # sums then have one order in any process, and the same picture the same bytes
        return GanMaker(self)

    def donor_weights(self) -> Float | None:
        """(N,) chances to lend a pose, the greater the worse somebody is found; None without a run that says so.

        :class:`ConfigError` where the run's people are not this set's: ids alone do not tell sets apart.
        """
        if self.hard is None:
            return None
        table = Table.read(self._table_file)
        judged = list(zip(table.image_ids.tolist(), table.annotation_ids.tolist(), strict=True))
        people = list(zip(self.dataset.image_ids.tolist(), self.dataset.ids.tolist(), strict=True))
        told, own = dict(zip(judged, table.oks.tolist(), strict=True)), set(people)
        remedy = f"give a run of 'stagepose train-stages' on {self.data} alone"
        if len(told) < len(judged):
            raise ConfigError(f"{self._table_file}: the ids of {len(judged) - len(told)} of its {len(judged)} people "
                              f"stand there twice: they are of several sets, numbered alike; {remedy}")
        if strangers := [person for person in judged if person not in own]:
            raise ConfigError(f"{self._table_file}: {len(strangers)} of its {len(judged)} people are not in the set, "
                              f"such as annotation {strangers[0][1]} of image {strangers[0][0]}; {remedy}")
        oks = np.array([told.get(person, np.nan) for person in people])
        return np.where(np.isnan(oks), 0, MILDEST + (1 - MILDEST) * (1 - oks))

    @property
    def _table_file(self) -> Path:
        assert self.hard is not None
        file = self.hard / STAGES / "1.npz"
        if not file.is_file():
            raise ConfigError(f"{self.hard}: nobody is judged after stage 1 there; --hard names a run of 'stagepose "
                              "train-stages' whose first stage is done")
        return file


class GanMaker:
    """Makes picture after picture; see :class:`stagepose.extend.made.Maker`."""

    def __init__(self, recipe: GanRecipe) -> None:
        self.recipe, self.data, self.areas, self.poses = recipe, recipe.dataset, recipe.areas, recipe.poses
        config, _, _ = read_config(recipe.run)
        self.size, self.spec = config.size, CropSpec(input_size=config.size)
        self.network: RepairNet = load_generator(recipe.run).to(recipe.device)
        self.limbs = self.poses.limbs
        self.rows: NDArray[np.int64] = np.flatnonzero(self.poses.whole.any(1))  # whose photos are changed
        self._orders = Orders(lambda turn: weighted_order(recipe.seed, turn, [len(self.rows)], [1.0]))

    def make(self, numbers: Sequence[int]) -> list[Made | Refused]:
        """One by one: a sum over a batch could round otherwise than over one picture."""
        return [self._one(number) for number in numbers]

    def _one(self, number: int) -> Made | Refused:
        """Everybody once, in random order, then everybody again."""
        turn, place = divmod(number, len(self.rows))
        row = int(self.rows[self._orders.rows([(turn, place)])[0]])
        to_canvas = crop_affine(canvas_box(self.data.boxes_xyxy[row], self.spec), self.spec.canvas)
        keypoints = self._window(to_canvas).keypoints(self.data.keypoints[row])
        area = float(self.areas[row] * np.linalg.det(to_canvas.matrix[:, :2]))
        pose = self.poses.draw(keypoints, area, self.size, generator(self.recipe.seed, turn, place))
        if isinstance(pose, str):
            return Refused(pose)
        image = self.data.image_of(row)
        photo = read_image(images_folder(self.recipe.data) / image.file_name).pixels
        canvas = to_canvas.warp(photo, self.spec.canvas)
        left, top = _margins(self.spec)
        window = (slice(top, top + self.size[1]), slice(left, left + self.size[0]))
        canvas[window] = self._painted(canvas[window], keypoints, pose, area)
        made = MadePerson(self._box(row, to_canvas, pose), area, _labels(pose, area, self.limbs, (left, top)),
                          notes={"pose": pose.kind})
        return self._framed(canvas, to_canvas, made, row, pose)

    def _window(self, to_canvas: Affine) -> Affine:
        """The photo's points to those of the network's picture, the middle of the canvas."""
        return to_canvas.then(_shift(*(-margin for margin in _margins(self.spec))))

    @torch.inference_mode()
    def _painted(self, pixels_HW3: NDArray[np.uint8], keypoints: Float, pose: NewPose,
                 area: float) -> NDArray[np.uint8]:
        """The network's picture with the limbs in their new places, repaired."""
        photo = (torch.from_numpy(np.ascontiguousarray(pixels_HW3)).permute(2, 0, 1)[None].float() - HALF) / HALF
        photo = photo.to(self.recipe.device)
        move = carry_to(keypoints[None], pose.keypoints[None], pose.moved[None], np.array([area]), self.limbs)
        moved = move_limbs(photo, move)
        maps = pose_maps(pose.keypoints[None], self.recipe.skeleton, self.size, photo.device)
        inside = _fade(self.size).to(photo.device)
        return to_pixels(torch.lerp(photo, repair(self.network, moved, maps), inside)).squeeze(0)

    def _box(self, row: int, to_canvas: Affine, pose: NewPose) -> Float:
        """In canvas pixels: as far around the outermost joints as the photo's box was, on every side."""
        old = to_canvas.boxes(self.data.boxes_xyxy[row][None])[0]
        labelled = self.data.keypoints[row, :, 2] > 0
        before = to_canvas.points(self.data.keypoints[row, labelled, :2]) + 0.5
        after = pose.keypoints[labelled, :2] + 0.5 + _margins(self.spec)
        low = after.min(0) - np.maximum(before.min(0) - old[:2], 0)
        high = after.max(0) + np.maximum(old[2:] - before.max(0), 0)
        return np.concatenate([low, high])

    def _framed(self, canvas: NDArray[np.uint8], to_canvas: Affine, made: MadePerson, row: int, pose: NewPose) -> Made:
        """The part of the canvas that the photo covers, with everybody else who stands there."""
        image = self.data.image_of(row)
        limits = np.array(self.spec.canvas)
        covers = to_canvas.boxes(np.array([[0, 0, image.width, image.height]]))[0]
        x1, y1 = np.clip(np.ceil(covers[:2] - 0.01), 0, limits - 1).astype(int).tolist()
        x2, y2 = np.clip(np.floor(covers[2:] + 0.01), [x1 + 1, y1 + 1], limits).astype(int).tolist()
        to_frame = _shift(-x1, -y1)
        frame = np.array([x2 - x1, y2 - y1])
        person = MadePerson(_clipped(to_frame.boxes(made.box_xyxy[None])[0], frame), made.area,
                            in_picture(to_frame.keypoints(made.keypoints), x2 - x1, y2 - y1), notes=made.notes)
        others = [other for other in self.data.rows_by_image[image.id].tolist() if other != row]
        return Made(np.ascontiguousarray(canvas[y1:y2, x1:x2]),
                    (person, *self._bystanders(others, to_canvas.then(to_frame), frame)),
                    tuple(source_of(self.data, one) for one in (row, *pose.donors)),
                    notes_of(self.data, image.id))

    def _bystanders(self, rows: Sequence[int], to_frame: Affine, frame: NDArray[np.int64]) -> list[MadePerson]:
        """What of other people's boxes, and of crowds', is in the picture."""
        boxes = [_clipped(to_frame.boxes(self.data.boxes_xyxy[row][None])[0], frame) for row in rows]
        nobody = np.zeros((len(self.recipe.skeleton), 3))
        return [MadePerson(box, float(AREA_OF_BOX * np.prod(box[2:] - box[:2])), nobody, new=False,
                           notes={"iscrowd": int(self.data.crowd[row])})
                for row, box in zip(rows, boxes, strict=True) if (box[2:] - box[:2]).min() >= SMALLEST]


def _margins(spec: CropSpec) -> tuple[int, int]:
    """Pixels of context to the left of the network's picture, and above it."""
    return (spec.canvas[0] - spec.input_size[0]) // 2, (spec.canvas[1] - spec.input_size[1]) // 2


def _shift(x: float, y: float) -> Affine:
    return Affine(np.array([[1.0, 0, x], [0, 1, y]]))


def _labels(pose: NewPose, area: float, limbs: Limbs, offset: tuple[int, int]) -> Float:
    """Keypoints (K, 3) in canvas pixels, those behind a moved limb as hidden."""
    return _shift(*offset).keypoints(covered(pose.keypoints, pose.moved, area, limbs))


def _clipped(box_xyxy: Float, frame: NDArray[np.int64]) -> Float:
    return np.clip(box_xyxy, 0, np.concatenate([frame, frame]))


def _fade(size: Size) -> Tensor:
    """(H, W) 1 in the middle, 0 on the border."""
    width, height = size
    rise = [torch.minimum(torch.arange(side), torch.arange(side - 1, -1, -1)) / FADE for side in (width, height)]
    return torch.minimum(rise[0][None, :], rise[1][:, None]).clamp(0, 1)
