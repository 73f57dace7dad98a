"""What one process of the cluster does: pictures of a table in, their people out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from stagepose.cluster.addresses import fetch, is_uri
from stagepose.coco import person_result
from stagepose.errors import ConfigError, ImageError, ModelError
from stagepose.images import Picture, printable, read_image
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, Model, load

READERS = 8  # pictures that storage is asked for at once
PERSON = pa.struct([
    ("score", pa.float32()),
    ("box", pa.list_(pa.float32())),
    ("keypoints", pa.list_(pa.float32())),
])  # fmt: skip
COLUMNS = pa.schema([
    ("width", pa.int32()), ("height", pa.int32()), ("people", pa.list_(PERSON)), ("notices", pa.list_(pa.string())),
    ("error", pa.string()),
])  # fmt: skip


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
    there is a process for every core.
    """

    def __init__(self, pose: Model = DEFAULT_POSE, detector: Model = DEFAULT_DETECTOR, *, column: str = "image",
                 threads: int = 1, providers: Any = None, **config: Any) -> None:
        cv2.setNumThreads(threads)
        self.predictor = load(pose, detector, threads=threads, providers=providers, **config)
        self.column = column
        self._readers = ThreadPoolExecutor(READERS)

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = [self.look(*each) for each in self.fetched(_values(batch, self.column))]
        is_address = pa.types.is_string(batch.schema.field(self.column).type)
        kept = batch.drop_columns([name for name in batch.column_names
                                   if name in COLUMNS.names or (name == self.column and not is_address)])
        return with_columns(kept, rows)

    def fetched(self, pictures: list[Any]) -> Iterator[tuple[Any, str | None, str | None]]:
        """The pictures in their order, those of storage as bytes; their addresses; why they are not there."""
        return self._readers.map(_fetched, pictures)

    def look(self, picture: Any, name: str | None = None, error: str | None = None) -> dict[str, Any]:
        """A row of :data:`COLUMNS`."""
        if error is None:
            try:
                return self._found(read_image(picture, max_pixels=self.predictor.config.max_pixels, name=name))
            except ModelError:  # would be said of every picture
                raise
            except MemoryError:
                error = "not enough memory for it; make it smaller"
            except Exception as reason:  # whatever a library says to a stranger's file must cost one row
                error = str(reason) if isinstance(reason, ImageError) else f"{type(reason).__name__}: {reason}"
        return {"error": printable(error)}

    def _found(self, picture: Picture) -> dict[str, Any]:
        height, width = picture.pixels.shape[:2]
        people = [person_result(person) for person in self.predictor.people(picture)]
        return {"width": width, "height": height, "people": people, "notices": list(picture.notices)}


def with_columns(table: pa.Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The table with :data:`COLUMNS` of its rows."""
    for field in COLUMNS:
        table = table.append_column(field, pa.array([row.get(field.name) for row in rows], field.type))
    return table


def _fetched(picture: Any) -> tuple[Any, str | None, str | None]:
    if not isinstance(picture, str) or not is_uri(picture):
        return picture, None, None
    try:
        return fetch(picture), picture, None
    except ImageError as error:
        return None, picture, str(error)


def _values(batch: pa.Table, column: str) -> list[Any]:
    if column not in batch.column_names:
        raise ConfigError(f"column is {column!r}, and the data has {batch.column_names}; name the one with "
                          "the pictures")
    values = batch.column(column)
    if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
        return list(values.to_pylist())
    return [np.asarray(value) for chunk in values.chunks for value in
            (chunk.to_numpy_ndarray() if isinstance(chunk, pa.FixedShapeTensorArray)  # Arrow's own
             else chunk.to_numpy(zero_copy_only=False))]  # Ray's
