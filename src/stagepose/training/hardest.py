"""A contact sheet of the people whom a stage finds hardest, with their labels drawn in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError
from stagepose.geometry import Affine
from stagepose.images import write_image
from stagepose.labelled import draw_labelled, labelled_person
from stagepose.making.sheet import captioned, laid_out
from stagepose.training.store import STORE, CropStore, open_store
from stagepose.training.table import Table

TILE, GAP, ACROSS = 192, 6, 8  # pixels of a tile's side, and between tiles; tiles a row


def rows(table: Table, count: int, skip: int = 0) -> NDArray[np.int64]:
    """The ``count`` rows of lowest OKS after the first ``skip``; of equals the earlier."""
    if count < 1 or skip < 0:
        raise ConfigError(f"count is {count} and skip {skip}; expected at least 1 and 0")
    chosen = np.argsort(table.oks, kind="stable")[skip : skip + count]
    if not len(chosen):
        raise ConfigError(f"skip is {skip}, but there are only {len(table.oks)} people")
    return np.asarray(chosen, dtype=np.int64)


def write_sheet(table: Table, chosen: NDArray[np.int64], path: Path, crops: Path, source: Path) -> None:
    """Tiles in reading order, each with its OKS, stage and annotation id above it; ``source`` is the table's file.

    Their canvases are looked for in ``crops``, then where they lay when the table was made.
    """
    stores = [_opened(Path(home), crops) for home in table.stores]
    table.check(stores, source)
    starts = np.searchsorted(table.sets, np.arange(len(stores)))
    tiles = []
    for row in chosen.tolist():
        number = int(table.sets[row])
        text = f"OKS {table.oks[row]:.2f}  stage {table.stage}  #{table.annotation_ids[row]}"
        tiles.append(_tile(stores[number], row - int(starts[number]), text))
    write_image(path, laid_out(tiles, ACROSS, GAP))


def _opened(home: Path, crops: Path) -> CropStore:
    """A table's store, which may have been moved since."""
    places = [crops / home.name, home]
    found = next((place for place in places if (place / STORE).is_file()), None)
    if found is None:
        raise ConfigError(f"{home}: no such crop store any more, nor is there a {home.name} in {crops}; --crops names "
                          "the folder that holds it now")
    return open_store(found)


def _tile(store: CropStore, row: int, text: str) -> NDArray[np.uint8]:
    """A person's whole canvas, scaled to fit, labels drawn in, under a line of text."""
    canvas = store.read([row])[0]
    height, width = canvas.shape[:2]
    scale = TILE / max(height, width)
    shift = (TILE - 1 - scale * (np.array([width, height]) - 1)) / 2
    place = Affine(np.column_stack([np.eye(2) * scale, shift]))
    points = store.keypoints[row].astype(np.float64)
    points[:, :2] = place.points(points[:, :2])
    labelled = points[points[:, 2] > 0, :2]
    person = labelled_person(points, np.concatenate([labelled.min(0), labelled.max(0)]), store.skeleton)
    return captioned(draw_labelled(place.warp(canvas, (TILE, TILE)), [person], boxes=False), text)
