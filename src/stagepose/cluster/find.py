"""What one process of the cluster does: pictures of a table in, their people out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import cv2
import numpy as np
import pyarrow as pa

from stagepose.ahead import in_order
from stagepose.cluster.addresses import fetch, is_uri
from stagepose.coco import person_result
from stagepose.errors import ConfigError, ImageError, ModelError
from stagepose.images import Picture, read_image
from stagepose.lines import printable
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, load
from stagepose.runtime import Model

MANY = 8  # pictures: where the models fail at so many and manage none, it is not the pictures
READERS = 8  # pictures that storage is asked for at once, and that lie in memory
FAILED = "failed"  # of a row: the ModelError behind its error; no column
PERSON = pa.struct([
    ("score", pa.float32()),
    ("box", pa.list_(pa.float32())),
    ("keypoints", pa.list_(pa.float32())),
])  # fmt: skip
COLUMNS = pa.schema([
    ("width", pa.int32()), ("height", pa.int32()), ("people", pa.list_(PERSON)), ("notices", pa.list_(pa.string())),
    ("error", pa.string()),
])  # fmt: skip

Fetched: TypeAlias = tuple[Any, str | None, str | None]  # a picture, its address, why it is not there


class FindPeople:
    """For ``Dataset.map_batches(FindPeople, batch_format="pyarrow", ...)`` of Ray Data.

    The column ``column`` of its tables has pictures: paths, URIs, the bytes of files, or uint8 RGB arrays (H, W, 3) as
    ``ray.data.read_images`` gives them. What comes out has the same rows: the other columns, the picture's address if
    it was one, and

    - ``width, height``: of the upright picture, in pixels; null where it could not be read;
    - ``people``: best first, each ``score``, ``box`` (x1, y1, x2, y2) and ``keypoints`` (x, y, score of each joint);
    - ``notices``: what to know of the picture, such as that it is the first of several;
    - ``error``: why it could not be used; null where it could. A bad picture never ends the work on the others.

    Models are named as for :func:`stagepose.load`, whose settings the rest are; one thread each by default, since
    there is a process for every core. :class:`ModelError` where they fail at all of many
    pictures.
    """

    def __init__(self, pose: Model = DEFAULT_POSE, detector: Model = DEFAULT_DETECTOR, *, column: str = "image",
                 threads: int = 1, providers: Any = None, **config: Any) -> None:
        cv2.setNumThreads(threads)
        self.predictor = load(pose, detector, threads=threads, providers=providers, **config)
        self.column = column
        self._readers = ThreadPoolExecutor(READERS)

    def __call__(self, batch: pa.Table) -> pa.Table:
        pictures, are_addresses = _values(batch, self.column)
        rows = [self.look(*each) for each in self.fetched(pictures)]
        refuse_broken(rows)
        dropped = set(COLUMNS.names) | (set() if are_addresses else {self.column})
        return with_columns(batch.drop_columns([name for name in batch.column_names if name in dropped]), rows)

    def fetched(self, pictures: Sequence[Any]) -> Iterator[Fetched]:
        """The pictures in their order, those of storage as bytes, a few of which are asked for ahead."""
        return in_order(self._readers, _fetched, pictures, READERS)

    def look(self, picture: Any, name: str | None = None, error: str | None = None) -> dict[str, Any]:
        """A row of :data:`COLUMNS`."""
        row: dict[str, Any] = {}
        if error is None:
            try:
                return self._found(read_image(picture, max_pixels=self.predictor.config.max_pixels, name=name))
            except MemoryError:
                error = "not enough memory for it; make it smaller"
            except Exception as reason:  # whatever a library says to a stranger's file must cost one row
                error = str(reason) if isinstance(reason, ImageError) else f"{type(reason).__name__}: {reason}"
                row = {FAILED: reason} if isinstance(reason, ModelError) else {}
        return {**row, "error": printable(error)}

    def _found(self, picture: Picture) -> dict[str, Any]:
        height, width = picture.pixels.shape[:2]
        people = [person_result(person) for person in self.predictor.people(picture)]
        return {"width": width, "height": height, "people": people, "notices": list(picture.notices)}


def refuse_broken(rows: Sequence[Mapping[str, Any]]) -> None:
    """:class:`ModelError` where the models failed at many pictures, and at all that could be read."""
    failed = [row[FAILED] for row in rows if FAILED in row]
    if len(failed) >= MANY and not any("people" in row for row in rows):
        raise failed[0]


def with_columns(table: pa.Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The table with :data:`COLUMNS` of its rows."""
    for field in COLUMNS:
        table = table.append_column(field, pa.array([row.get(field.name) for row in rows], field.type))
    return table


def _fetched(picture: Any) -> Fetched:
    if not isinstance(picture, str) or not is_uri(picture):
        return picture, None, None
    try:
        return fetch(picture), picture, None
    except ImageError as error:
        return None, picture, str(error)


def _values(batch: pa.Table, column: str) -> tuple[list[Any], bool]:
    """The pictures, and whether they are addresses."""
    if column not in batch.column_names:
        raise ConfigError(f"column is {column!r}, and the data has {batch.column_names}; name that with the "
                          "pictures")
    values = batch.column(column)
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return values.to_pylist(), True
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return values.to_pylist(), False
    if not isinstance(kind, pa.BaseExtensionType):
        raise ConfigError(f"column {column!r} has values of type {kind}; pictures are paths, URIs, bytes or arrays")
    return [np.asarray(value) for chunk in values.chunks for value in
            (chunk.to_numpy_ndarray() if isinstance(chunk, pa.FixedShapeTensorArray)  # Arrow's own
             else chunk.to_numpy(zero_copy_only=False))], False  # Ray's
