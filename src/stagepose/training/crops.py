"""The crop store: every person cut out once, uint8, memory-mapped; the only data path of pose training.

A store is a folder: ``crops.npy`` (N, H, W, 3) RGB, ``people.npz`` (keypoints and the Affine from the image),
``store.json`` (written last: canvas, skeleton, fingerprint of the source, what was left out).
N people, K keypoints, H W canvas size in pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagepose import files
from stagepose.coco import CocoDataset, picture_problems, read_dataset, summarise
from stagepose.errors import ConfigError, DatasetError, ImageError
from stagepose.geometry import Float, Size, crop_affine, fit_box
from stagepose.images import read_image
from stagepose.runtime import available_cores
from stagepose.skeleton import Skeleton

FORMAT = 1
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class CropSpec:
    """How people are cut out: ``input_size`` of the network, and how much more of the picture is kept around it.

    ``context`` 1.5 leaves room for zooming out by 1.35 and turning by 40 degrees before black corners show.
    """

    input_size: Size = (192, 256)
    context: float = 1.5

    def __post_init__(self) -> None:
        if self.context < 1:
            raise ConfigError(f"context {self.context} must be at least 1 (1 keeps just the network's input)")

    @property
    def canvas(self) -> Size:
        """(width, height) of a stored crop, even numbers."""
        return (round(self.input_size[0] * self.context / 2) * 2, round(self.input_size[1] * self.context / 2) * 2)


@dataclass(frozen=True, eq=False)
class CropStore:
    """All people of one set. ``keypoints`` (N, K, 3) are x, y in canvas pixels and visibility.

    Pickled by its path: worker processes open the files again instead of copying pixels.
    """

    home: Path
    crops: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    annotation_ids: NDArray[np.int64]
    spec: CropSpec
    skeleton: Skeleton
    left_out: dict[str, int]
    fingerprint: str  # of annotations, pictures (names, sizes, times), spec and skeleton

    def __len__(self) -> int:
        return len(self.crops)

    def __reduce__(self) -> tuple[Callable[[Path], CropStore], tuple[Path]]:
        return open_store, (self.home,)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Canvases (B, H, W, 3) of some people, in any order."""
        return np.stack([self.crops[row] for row in rows]) if len(rows) else np.array(self.crops[:0])

    def chunks(self, size: int = 1024) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """All canvases in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, np.array(self.crops[rows])


def open_or_pack(path: str | Path, images_dir: str | Path, folder: str | Path, *, spec: CropSpec, skeleton: Skeleton,
                 drop_bad: bool = False, progress: Progress | None = None) -> CropStore:
    """The store of annotation file ``path`` below ``folder``, packed first where it is missing or out of date.

    Pictures that are missing, unreadable or of another size than their labels say are refused with their count
    (:class:`DatasetError`), or left out and counted with ``drop_bad``.
    """
    path, images_dir = Path(path), Path(images_dir)
    fingerprint = _fingerprint(path, images_dir, spec, skeleton)
    home = Path(folder) / f"{path.parent.name}-{path.stem}-{fingerprint[:12]}"
    if not (home / "store.json").is_file():
        dataset = read_dataset(path, skeleton=skeleton)
        if not drop_bad:
            refuse_bad_pictures(dataset, images_dir)
        temporary = home.with_name(f"{home.name}.{os.getpid()}.tmp")  # two runs may pack at the same time
        try:
            pack(dataset, images_dir, temporary, spec=spec, fingerprint=fingerprint, drop_bad=drop_bad,
                 progress=progress)
            if not home.exists():
                temporary.rename(home)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return open_store(home)


def refuse_bad_pictures(dataset: CocoDataset, images_dir: Path) -> None:
    """:class:`DatasetError` with the kinds and counts of what is wrong with a set's pictures."""
    problems = [p for p in picture_problems(dataset, images_dir) if p.severity == "error"]
    if problems:
        kinds = "; ".join(f"{k.count} x {k.kind}, such as {k.examples[0]}" for k in summarise(problems))
        raise DatasetError(f"{dataset.path}: its pictures do not fit its labels: {kinds}. Mend them ('stagepose check "
                           "FILE --images DIR' lists all), or leave them out with --drop-bad")


def open_store(home: str | Path) -> CropStore:
    """Open a packed store; the pixels stay on disk until they are touched."""
    home = Path(home)
    try:
        info = json.loads((home / "store.json").read_text(encoding="utf-8"))
        people = np.load(home / "people.npz", allow_pickle=False)
        crops = np.load(home / "crops.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{home}: not a crop store ({error}); delete the folder and pack again") from error
    if info.get("format") != FORMAT or len(crops) != len(people["keypoints"]):
        raise DatasetError(f"{home}: crop store of format {info.get('format')}, expected {FORMAT}; pack again")
    spec = CropSpec(input_size=tuple(info["spec"]["input_size"]), context=info["spec"]["context"])
    return CropStore(home, crops, people["keypoints"], people["annotation_ids"], spec,
                     Skeleton.from_json(info["skeleton"]), info["left_out"], str(info["fingerprint"]))


def pack(dataset: CocoDataset, images_dir: str | Path, home: str | Path, *, spec: CropSpec, fingerprint: str = "",
         drop_bad: bool = False, progress: Progress | None = None) -> None:
    """Cut every labelled person out of its picture, on all cores.

    Raises :class:`DatasetError` when a picture cannot be read (with ``drop_bad`` its people are left out and counted),
    or when nobody is left.
    """
    home, images_dir = Path(home), Path(images_dir)
    home.mkdir(parents=True, exist_ok=True)
    rows = np.flatnonzero(dataset.with_keypoints())
    if not len(rows):
        raise DatasetError(f"{dataset.path}: no person with a labelled keypoint; nothing to train on")
    names = {image.id: image.file_name for image in dataset.images}
    width, height = spec.canvas
    temporary = home / "crops.npy.tmp"
    crops = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(rows), height, width, 3))
    keypoints = dataset.keypoints[rows].astype(np.float32)
    readable = np.ones(len(rows), dtype=bool)
    errors: list[str] = []
    by_image: dict[int, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        by_image[int(dataset.image_ids[row])].append(position)

    def cut(job: tuple[int, list[int]]) -> None:
        image_id, positions = job
        try:
            pixels = read_image(images_dir / names[image_id]).pixels
        except ImageError as error:
            readable[positions] = False
            errors.append(str(error))
            return
        for position in positions:
            affine = crop_affine(_canvas_box(dataset.boxes_xyxy[rows[position]], spec), spec.canvas)
            crops[position] = affine.warp(pixels, spec.canvas)
            keypoints[position, :, :2] = affine.points(keypoints[position, :, :2])

    with ThreadPoolExecutor(available_cores()) as pool:
        for done, _ in enumerate(pool.map(cut, by_image.items()), 1):
            if progress and (done % 50 == 0 or done == len(by_image)):
                progress(done, len(by_image))
    if errors and not drop_bad:
        raise DatasetError(f"{dataset.path}: {len(errors)} pictures cannot be read, such as {errors[0]}; mend them or "
                           "leave them out with --drop-bad")
    _finish(home, temporary, crops, keypoints, readable, dataset, rows, spec, fingerprint)


def _finish(home: Path, temporary: Path, crops: NDArray[np.uint8], keypoints: NDArray[np.float32],
            readable: NDArray[np.bool_], dataset: CocoDataset, rows: NDArray[np.intp], spec: CropSpec,
            fingerprint: str) -> None:
    """Drop the unreadable, then write the pieces with ``store.json`` last, so that a store is whole or absent."""
    if not readable.any():
        raise DatasetError(f"{dataset.path}: none of its images can be read; check the images folder")
    if not readable.all():
        kept = np.lib.format.open_memmap(home / "kept.npy.tmp", mode="w+", dtype=np.uint8,
                                         shape=(int(readable.sum()), *crops.shape[1:]))
        for target, source in enumerate(np.flatnonzero(readable)):
            kept[target] = crops[source]
        temporary.unlink()
        crops, temporary = kept, home / "kept.npy.tmp"
    crops.flush() if isinstance(crops, np.memmap) else None
    temporary.replace(home / "crops.npy")
    np.savez(home / "people.npz", keypoints=keypoints[readable], annotation_ids=dataset.ids[rows][readable])
    left_out = {
        "crowd or without keypoints": int(len(dataset.ids) - len(rows)),
        "image unreadable": int((~readable).sum()),
    }
    files.write_json(home / "store.json", {
        "format": FORMAT, "spec": asdict(spec), "skeleton": dataset.skeleton.to_json(),
        "fingerprint": fingerprint, "people": int(readable.sum()), "left_out": left_out,
    })


def _canvas_box(box_xyxy: Float, spec: CropSpec) -> Float:
    """The part of the picture that fills the canvas: the network's padded box, grown by the context."""
    x1, y1, x2, y2 = fit_box(box_xyxy, spec.input_size[0] / spec.input_size[1])
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    half_w = (x2 - x1) / 2 * spec.canvas[0] / spec.input_size[0]
    half_h = (y2 - y1) / 2 * spec.canvas[1] / spec.input_size[1]
    return np.array([cx - half_w, cy - half_h, cx + half_w, cy + half_h])


def _fingerprint(path: Path, images_dir: Path, spec: CropSpec, skeleton: Skeleton) -> str:
    """Changes when the labels, the pictures' names, sizes or times, or the way of cutting change."""
    try:
        digest = hashlib.sha256(path.read_bytes())
        pictures = sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in os.scandir(images_dir))
    except OSError as error:
        raise DatasetError(f"{error.filename}: cannot read: {error.strerror}") from error
    digest.update(json.dumps([FORMAT, asdict(spec), skeleton.to_json(), pictures]).encode())
    return digest.hexdigest()
