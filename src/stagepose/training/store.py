"""An opened crop store: labels in memory, pixels on disk. docs/crop_store.md says what lies in its folder.

N people, K keypoints, B rows of a batch, H W canvas size in pixels.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose import files
from stagepose.coco import CocoDataset
from stagepose.coco.clean import AREA_OF_BOX
from stagepose.errors import ConfigError, DatasetError, SkeletonError
from stagepose.geometry import BOX_PADDING, LEAST_PADDING, MOST_PADDING, Affine, Float, Size
from stagepose.skeleton import Skeleton
from stagepose.training.shards import REMEDY, Form, Shard, ShardReader

FORMAT = 2
STORE, PEOPLE = "store.json", "people.npz"
SMALLEST_SIDE = 32  # of a network's input: what its trunk halves to one pixel
CONTEXT = 1.5  # leaves room for zooming out by 1.35 and turning by 40 degrees before black corners show
MOST_CONTEXT = 5.0  # a little more than the widest box padding needs


@dataclass(frozen=True, kw_only=True)
class CropSpec:
    """How people are cut out: ``input_size`` of the network, and how much more of the picture is kept around it.

    A canvas is ``context`` times what a network of the usual box padding is shown.
    """

    input_size: Size = (192, 256)
    context: float = CONTEXT

    def __post_init__(self) -> None:
        if min(self.input_size) < SMALLEST_SIDE:
            raise ConfigError(f"input size {self.input_size[0]} x {self.input_size[1]}: both sides must be at least "
                              f"{SMALLEST_SIDE}")
        if not 1 <= self.context <= MOST_CONTEXT:
            raise ConfigError(f"context {self.context} must be 1 (keeps just the network's input) to {MOST_CONTEXT:g}")

    @classmethod
    def for_view(cls, input_size: Size, box_padding: float) -> CropSpec:
        """With room enough around what a network of this ``box_padding`` is shown; any up to the usual one share it."""
        if not LEAST_PADDING <= box_padding <= MOST_PADDING:
            raise ConfigError(f"box padding {box_padding} must be {LEAST_PADDING} to {MOST_PADDING:g}; {BOX_PADDING} "
                              "is usual")
        return cls(input_size=input_size, context=CONTEXT * max(1.0, box_padding / BOX_PADDING))

    @property
    def canvas(self) -> Size:
        """(width, height) of a stored crop, even numbers."""
        return (round(self.input_size[0] * self.context / 2) * 2, round(self.input_size[1] * self.context / 2) * 2)

    @property
    def row_bytes(self) -> int:
        """Bytes of one person's pixels."""
        return self.canvas[0] * self.canvas[1] * 3


@dataclass(frozen=True, eq=False)
class CropStore:
    """All people of one set, picture by picture.

    Pickled as its path: a data worker opens the files again instead of getting a copy. What ``dataclasses.replace``
    has made of one is not on disk, so its labels travel along.
    """

    home: Path
    keypoints: NDArray[np.float32]  # (N, K, 3) x, y in canvas pixels, visibility
    areas: NDArray[np.float32]  # (N,) of the person in its picture, pixels^2
    annotation_ids: NDArray[np.int64]  # (N,)
    image_ids: NDArray[np.int64]  # (N,)
    affines: NDArray[np.float64]  # (N, 2, 3) image points -> canvas points
    image_names: tuple[str, ...]  # the pictures' file names, in the order of their ids
    spec: CropSpec
    skeleton: Skeleton
    left_out: dict[str, int]  # annotations that are no people here, by reason
    fingerprint: str  # of annotations, pictures (names, sizes, times), spec, skeleton and the form of the pixels
    form: Form
    shards: tuple[Shard, ...]
    _sizes: NDArray[np.int64] = field(repr=False)  # (N,) bytes of each person
    _as_on_disk: bool = field(default=False, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.annotation_ids)

    def __reduce__(self) -> tuple[Callable[..., CropStore], tuple[Path, ...]]:
        if self._as_on_disk:
            return open_store, (self.home,)
        return partial(CropStore, **{f.name: getattr(self, f.name) for f in fields(self) if f.init}), ()

    @property
    def negative(self) -> bool:
        """Whether it holds boxes without a person, :mod:`stagepose.coco.negatives`: people have a labelled joint."""
        return not (self.keypoints[..., 2] > 0).any()

    @property
    def megabytes(self) -> float:
        """Of pixels, on disk."""
        return sum(shard.bytes for shard in self.shards) / 1e6

    @cached_property
    def _reader(self) -> ShardReader:
        return ShardReader(self.home, self.shards, self.form, self.spec.canvas, self._sizes)

    def affine(self, row: int) -> Affine:
        """Takes points of a person's picture to its canvas."""
        return Affine(self.affines[row])

    def crops(self, rows: Sequence[int] | NDArray[np.integer]) -> list[NDArray[np.uint8]]:
        """Canvases (H, W, 3) uint8 RGB of rows in any order, repeated or not.

        Raw pixels are read-only views of the mapped files, so that nothing is copied which is only looked at once.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of a store of {len(self)} people")
        return self._reader.read(wanted)

    def read(self, rows: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """A copy of :meth:`crops` in one piece (B, H, W, 3)."""
        out = np.empty((len(rows), self.spec.canvas[1], self.spec.canvas[0], 3), dtype=np.uint8)
        for place, crop in zip(out, self.crops(rows), strict=True):
            place[...] = crop
        return out

    def chunks(self, size: int = 256) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """All people in order, ``size`` at a time: their rows and their canvases (b, H, W, 3)."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield slice(start, stop), self.read(np.arange(start, stop))


def open_store(home: str | Path) -> CropStore:
    """Open a packed store; the pixels stay on disk until they are touched.

    :class:`DatasetError` names the file that is missing, short, damaged or of another format.
    """
    home = Path(home)
    info = _read_info(home)
    try:
        spec = CropSpec(input_size=tuple(info["spec"]["input_size"]), context=info["spec"]["context"])
        skeleton = Skeleton.from_json(info["skeleton"])
        shards = tuple(Shard(str(s["name"]), int(s["people"]), int(s["bytes"])) for s in info["shards"])
        form: Form = {"raw": "raw", "jpeg": "jpeg"}[info["form"]]  # type: ignore[assignment]
        left_out = {str(reason): int(count) for reason, count in info["left_out"].items()}
        people, fingerprint = int(info["people"]), str(info["fingerprint"])
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError, SkeletonError) as error:
        raise _damaged(home / STORE, error) from error
    for shard in shards:
        _check_length(home / shard.name, shard.bytes)
    columns = _read_people(home / PEOPLE, people, len(skeleton))
    names = columns.pop("names")
    sizes = columns.pop("sizes").astype(np.int64)
    if sum(shard.people for shard in shards) != people or sum(shard.bytes for shard in shards) != sizes.sum():
        raise _damaged(home / STORE, "its shards do not hold its people")
    store = CropStore(home=home, **columns, image_names=tuple(json.loads(names.tobytes())), spec=spec,
                      skeleton=skeleton, left_out=left_out, fingerprint=fingerprint, form=form, shards=shards,
                      _sizes=sizes)
    object.__setattr__(store, "_as_on_disk", True)
    return store


def labels_of(dataset: CocoDataset, rows: NDArray[np.int64], affines: Float) -> dict[str, NDArray[Any]]:
    """The columns of a :class:`CropStore` that are labels, of some rows of a data set, in their order."""
    keypoints = dataset.keypoints[rows].astype(np.float64)
    moved = np.einsum("nij,nkj->nki", affines[:, :, :2], keypoints[..., :2]) + affines[:, None, :, 2]
    keypoints[..., :2] = moved
    areas = dataset.areas_or_boxes(AREA_OF_BOX)[rows]
    return {"keypoints": keypoints.astype(np.float32), "areas": areas.astype(np.float32),
            "annotation_ids": dataset.ids[rows], "image_ids": dataset.image_ids[rows], "affines": affines}


def write_labels(home: Path, dataset: CocoDataset, rows: NDArray[np.int64], affines: Float,
                 sizes: NDArray[np.int64]) -> None:
    """``people.npz`` of some rows of a data set, in their order; ``sizes`` are the bytes of their pixels."""
    names = [dataset.image_by_id[i].file_name for i in np.unique(dataset.image_ids[rows]).tolist()]
    columns: dict[str, Any] = {**labels_of(dataset, rows, affines), "sizes": sizes,
                               "names": np.frombuffer(json.dumps(names).encode(), dtype=np.uint8)}
    archive = io.BytesIO()
    np.savez(archive, **columns)
    files.write_bytes(home / PEOPLE, archive.getvalue())


def write_description(home: Path, *, spec: CropSpec, skeleton: Skeleton, fingerprint: str, form: Form,
                      left_out: dict[str, int], shards: Sequence[Shard]) -> None:
    """``store.json``, written last: a store is whole or it is none."""
    files.write_json(home / STORE, {
        "format": FORMAT, "form": form, "spec": asdict(spec), "skeleton": skeleton.to_json(),
        "fingerprint": fingerprint, "people": sum(shard.people for shard in shards), "left_out": left_out,
        "shards": [asdict(shard) for shard in shards],
    })


def _read_info(home: Path) -> dict[str, Any]:
    path = home / STORE
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{home}: no crop store: it has no {STORE}; make one with 'stagepose pack'") from error
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(info, dict):
        raise _damaged(path, f"a {type(info).__name__}, expected an object")
    if info.get("format") != FORMAT:
        raise DatasetError(f"{home}: crop store of format {info.get('format')}, expected {FORMAT}; delete the folder "
                           "and pack again")
    return info


def _check_length(path: Path, expected: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DatasetError(f"{path}: this part of the crop store is missing; {REMEDY}") from error
    if found != expected:
        raise DatasetError(f"{path}: has {found:,} bytes, expected {expected:,}: cut short or not from this store; "
                           f"{REMEDY}")


def _read_people(path: Path, people: int, joints: int) -> dict[str, NDArray[Any]]:
    """The columns, whole: the file is a zip, whose checksums are compared while it is read."""
    shapes = {"keypoints": (people, joints, 3), "areas": (people,), "annotation_ids": (people,),
              "image_ids": (people,), "affines": (people, 2, 3), "sizes": (people,)}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # np.load leaves a bad one open
            columns = {name: archive[name] for name in (*shapes, "names")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error
    for name, shape in shapes.items():
        if columns[name].shape != shape:
            raise _damaged(path, f"{name} has shape {columns[name].shape}, expected {shape}")
    return columns


def _damaged(path: Path, why: object) -> DatasetError:
    return DatasetError(f"{path}: damaged, not what a crop store has there ({why}); delete the folder and pack again")
