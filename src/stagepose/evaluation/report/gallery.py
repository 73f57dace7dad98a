"""People one by one: the picture around each, with what is labelled and what was found drawn over it as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stagepose.errors import ImageError
from stagepose.evaluation.analysis import Case
from stagepose.evaluation.report.svg import COLOURS
from stagepose.evaluation.taxonomy import KINDS
from stagepose.geometry import Affine, Size, crop_affine, fit_box
from stagepose.images import read_image
from stagepose.skeleton import Skeleton

TILE: Size = (264, 330)
CONTEXT = 1.5  # times the box: what a swap swapped with should be seen too
QUALITY = 80  # of JPEGs: about 15 KB a person
EMPTY = "#9aa3ad"  # where there is no picture


def cards(cases: Sequence[Case], skeleton: Skeleton, images_dir: Path | None) -> tuple[str, int]:
    """The cards, and how many of them had to do without their picture."""
    made = [_card(case, skeleton, images_dir) for case in cases]
    return "".join(card for card, _ in made), sum(not pictured for _, pictured in made)


def _card(case: Case, skeleton: Skeleton, images_dir: Path | None) -> tuple[str, bool]:
    affine = crop_affine(fit_box(np.array(case.box), TILE[0] / TILE[1], CONTEXT), TILE)
    jpeg = _picture(images_dir / case.file_name, affine) if images_dir is not None else None
    ground = (f'<image width="{TILE[0]}" height="{TILE[1]}" href="data:image/jpeg;base64,{jpeg}"/>' if jpeg else
              f'<rect width="{TILE[0]}" height="{TILE[1]}" fill="{EMPTY}"/>')
    drawn = _drawing(case, skeleton, affine)
    sorting = {"oks": case.oks, "score": case.score or 0, "area": case.area, "overlap": case.overlap,
               "labelled": case.labelled, **{kind: case.count(kind) for kind in KINDS}}
    data = " ".join(f'data-{name}="{value:.6g}"' for name, value in sorting.items())
    picture = f'<svg viewBox="0 0 {TILE[0]} {TILE[1]}">{ground}{drawn}</svg>'
    return (f'<figure class="case" {data}>{picture}<figcaption>{_caption(case)}</figcaption></figure>',
            jpeg is not None)


def _picture(path: Path, affine: Affine) -> str | None:
    """The crop as base64 of a JPEG, None where the picture cannot be read."""
    try:
        pixels = affine.warp(read_image(path).pixels, TILE, border=24)
    except ImageError:
        return None
    memory = io.BytesIO()
    Image.fromarray(pixels).save(memory, "JPEG", quality=QUALITY)
    return base64.b64encode(memory.getvalue()).decode("ascii")


def _drawing(case: Case, skeleton: Skeleton, affine: Affine) -> str:
    truth = np.array(case.truth)
    labelled, places = truth[:, 2] > 0, affine.points(truth[:, :2])
    parts = ['<g class="truth">', *(_line(places[a], places[b]) for a, b in skeleton.limb_index
                                    if labelled[a] and labelled[b]),
             *(_dot(places[k], 3.2, title=f"{skeleton.names[k]}, labelled") for k in np.flatnonzero(labelled)), "</g>"]
    if case.found is not None:
        found = np.clip(affine.points(np.array(case.found)), -5 * TILE[1], 5 * TILE[1])
        wrong = [k for k, kind in enumerate(case.kinds) if kind not in (None, "good")]
        parts += ['<g class="found">', *(_line(found[a], found[b]) for a, b in skeleton.limb_index), "</g>",
                  '<g class="errors">', *(_line(found[k], places[k], COLOURS[str(case.kinds[k])]) for k in wrong),
                  '</g><g class="found">', *(_joint(found[k], case.kinds[k], skeleton.names[k])
                                             for k in range(len(skeleton))), "</g>"]  # fmt: skip
    return "".join(parts)


def _joint(xy: NDArray[np.float64], kind: str | None, name: str) -> str:
    if kind is None:
        return _dot(xy, 1.8, "#ffffff", f"{name}: not labelled")
    return _dot(xy, 4, COLOURS[kind], f"{name}: {kind}")


def _line(a: NDArray[np.float64], b: NDArray[np.float64], colour: str = "") -> str:
    stroke = f' stroke="{colour}"' if colour else ""
    return f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"{stroke}/>'


def _dot(xy: NDArray[np.float64], radius: float, colour: str = "", title: str = "") -> str:
    fill = f' fill="{colour}"' if colour else ""
    return f'<circle cx="{xy[0]:.1f}" cy="{xy[1]:.1f}" r="{radius:g}"{fill}><title>{escape(title)}</title></circle>'


def _caption(case: Case) -> str:
    where = escape(case.file_name) + (f" · person {case.annotation}" if case.annotation is not None else "")
    if case.annotation is None:
        return f"<b>nobody here</b><span>score {case.score:.2f}</span><small>{where}</small>"
    head = f"<b>OKS {case.oks:.2f}</b>" if case.oks > 0 else "<b>missed</b>"
    score = f"<span>score {case.score:.2f}</span>" if case.score is not None else "<span>no result</span>"
    chips = "".join(f'<i style="background:{COLOURS[kind]}">{case.count(kind)} {kind}</i>' for kind in KINDS[1:]
                    if case.count(kind))
    size = f"{np.sqrt(case.area):.0f} px · {case.labelled} joints · overlap {case.overlap:.2f}"
    return f"{head}{score}<div>{chips}</div><small>{size}</small><small>{where}</small>"
