"""CVAT for images 1.1: one XML file in which every point of a skeleton says its own name.

``outside`` of a point is 1 where it is not in the picture, ``occluded`` where something hides it. A skeleton has no
box; a rectangle in its group, or the only one around it of the people's label or ``person_box``, is its box. Names in
their order, and the lines between them, stand in the file's list of labels. Pixels are those of the upright picture.
Source: docs.cvat.ai (XML annotation format; annotation with skeletons). CVAT's COCO keypoints export is read as any
COCO file is; versions before the end of 2022 wrote its keypoints in an order of their own (cvat-ai/cvat, issue 5048),
which nothing in it tells.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from stagepose.coco.category import plain_name
from stagepose.coco.dataset import CocoDataset
from stagepose.coco.problems import show
from stagepose.errors import DatasetError
from stagepose.files import write_text
from stagepose.formats.assemble import BoxShape, PointShape, assemble
from stagepose.formats.collect import (
    NOT_LABELLED,
    PERSON,
    Collector,
    Labels,
    Point,
    choose_category,
    number,
    picture_folders,
    stated_size,
)
from stagepose.formats.layout import Target
from stagepose.formats.xmlfile import Node, parse_xml, read_xml
from stagepose.lines import printable
from stagepose.skeleton import HIDDEN, UNLABELLED, VISIBLE, Skeleton, by_names

WHAT = "an export of 'CVAT for images 1.1'"
BOX_LABEL = "person_box"  # CVAT has no box and skeleton of one name
SHAPES = ("box", "polygon", "polyline", "points", "cuboid", "ellipse", "mask", "skeleton")


# --- reading


def read(path: Path, *, images: Path | None = None, skeleton: Skeleton | None = None, category: str | None = None
         ) -> Labels:  # fmt: skip
    """The people of a file; pictures are looked for in ``images``, else in images/ beside it and beside it."""
    root = read_xml(path, WHAT)
    pictures = root.all("image")
    if root.tag != "annotations" or (not pictures and root.all("track")):
        kind = "CVAT for video" if root.all("track") else show(root.tag)
        raise DatasetError(f"{printable(path)}: is {kind}; export it as 'CVAT for images 1.1'")
    skeletons = Counter(node.attributes.get("label", "") for picture in pictures for node in picture.all("skeleton"))
    declared = {label.word("name"): label for label in root.below("label") if label.word("type") == "skeleton"}
    skeletons.update(dict.fromkeys(declared, 0))
    person = choose_category(skeletons, category, path)
    folders = picture_folders(path, images)
    to = Collector(images, skeleton, strict=not declared)  # declared labels are no slips of the pen
    tied = sum(_read_picture(node, f"{printable(path)}: line ", folders, person, to) for node in pictures)
    to.notes.append("visibility: 0 for points outside, 1 for occluded ones, 2 for all others")
    if tied:
        to.notes.append(f"{tied} shapes without a group were given to the only box around them")
    own = _declared(root, declared, person, to)
    return to.finish(own, folders[0])


def _declared(root: Node, declared: dict[str, Node], person: str, to: Collector) -> Skeleton | None:
    """The skeleton that the file's labels describe: sublabels in their order, limbs of its drawing."""
    label = next((node for name, node in declared.items() if plain_name(name) == person), None)
    if label is None:
        return None
    parent = label.word("name")
    names = tuple(dict.fromkeys(plain_name(node.word("name")) for node in root.below("label")
                                if node.word("parent") == parent))
    return by_names(names, _limbs(label.word("svg"), names, to)) if names else None


def _limbs(svg: str, names: tuple[str, ...], to: Collector) -> list[tuple[int, int]]:
    """Lines between nodes, by the names of the nodes' labels; none where the drawing cannot be read."""
    try:
        drawing = parse_xml(f"<svg>{svg}</svg>".encode(), "the skeleton's drawing", WHAT)
    except DatasetError as error:
        to.notes.append(f"limbs, which are for drawing only, are left out: {error}")
        return []
    place = {node.attributes.get("data-node-id"): names.index(name) for node in drawing.below("circle")
             if (name := plain_name(node.attributes.get("data-label-name", ""))) in names}
    ends = [(place.get(line.attributes.get("data-node-from")), place.get(line.attributes.get("data-node-to")))
            for line in drawing.below("line")]
    return [(a, b) for a, b in ends if a is not None and b is not None and a != b]


def _read_picture(node: Node, file: str, folders: list[Path], person: str, to: Collector) -> int:
    where, name = f"{file}{node.line}", node.attributes.get("name", "")
    to.turn_to(None)
    if not name:
        to.wrong("label-file", where, "an image has no name")
        return 0
    sides = [node.attributes.get(side, "") for side in ("width", "height")]
    stated = stated_size(*(int(side) if re.fullmatch(r"\d{1,18}", side) else None for side in sides))
    if stated is None:
        to.wrong("label-value", where, f"the size of {show(name)} is told by no whole numbers")
        return 0
    names = [name, f"{node.attributes.get('subset', '.')}/{name}"]  # a project's export has a folder a subset
    image = to.picture(name, [folder / each for folder in folders for each in names], where, stated)
    if image is None:
        return 0
    boxes: list[BoxShape] = []
    points: list[PointShape] = []
    groups = {shape.attributes.get("group_id") for shape in node.all("skeleton")
              if plain_name(shape.attributes.get("label", "")) == person} - {None}
    for at, shape in enumerate(node.children):
        label, place = shape.attributes.get("label", ""), f"{file}{shape.line}"
        group = shape.attributes.get("group_id")
        if shape.tag == "skeleton" and plain_name(label) == person:
            points += _read_skeleton(shape, group or ("skeleton", at), file, to)
        elif shape.tag == "box" and (plain_name(label) in (person, BOX_LABEL) or group in groups):
            try:
                edges = [number(shape.attributes[edge]) for edge in ("xtl", "ytl", "xbr", "ybr")]
            except (KeyError, ValueError):
                to.wrong("label-value", place, f"the edges of box {show(label)} are no four numbers")
                continue
            turn = shape.attributes.get("rotation", "0")
            if not re.fullmatch(r"0(\.0*)?", turn):
                to.wrong("label-value", place, f"box {show(label)} is rotated by {show(turn)}; boxes must be upright")
                continue
            boxes.append(BoxShape(group, label, (edges[0], edges[1], edges[2], edges[3]), place))
        elif shape.tag in SHAPES:
            to.leave_out(f"{shape.tag} shapes of {label}")
    return assemble(image, boxes, points, to)


def _read_skeleton(node: Node, key: str | tuple[str, int], file: str, to: Collector) -> list[PointShape]:
    shapes = []
    for child in node.all("points"):
        label, where = child.attributes.get("label", ""), f"{file}{child.line}"
        name = to.keypoint(label, where)
        if name is None:
            continue
        try:
            x, y = (number(part) for part in child.attributes.get("points", "").split(","))
        except ValueError:
            to.wrong("label-value", where, f"{show(label)} is at {show(child.attributes.get('points'))}, expected x,y")
            continue
        outside, occluded = (child.attributes.get(flag) == "1" for flag in ("outside", "occluded"))
        point: Point = NOT_LABELLED if outside else (x, y, HIDDEN if occluded else VISIBLE)
        shapes.append(PointShape(key, name, point, where))
    return shapes


# --- writing


def write(dataset: CocoDataset, to: Target) -> list[str]:
    """One XML file that CVAT takes as 'CVAT 1.1', and beside it the labels that the task must have, as raw JSON."""
    labels = to.out.with_name(f"{to.out.stem}.labels.json")
    to.refuse_existing([to.out, labels])
    svg = _svg(dataset.skeleton)
    meta = f"<task><mode>annotation</mode><labels>{_labels_xml(dataset.skeleton, svg)}</labels></task>"
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>",
             f"  <meta>{meta}</meta>"]
    for at, image in enumerate(dataset.images):
        lines.append(f'  <image id="{at}" name={quoteattr(image.file_name)} width="{image.width}" '
                     f'height="{image.height}">')
        for group, row in enumerate(dataset.rows_by_image[image.id].tolist(), 1):
            lines += _person(dataset, row, group)
        lines.append("  </image>")
    write_text(labels, json.dumps(_labels_json(dataset.skeleton, svg), indent=1) + "\n")
    write_text(to.out, "\n".join([*lines, "</annotations>"]) + "\n")
    return [f"the task needs the labels of {printable(labels)} (paste it as raw labels)"]


def _person(dataset: CocoDataset, row: int, group: int) -> list[str]:
    left, top, right, bottom = dataset.boxes_xyxy[row].tolist()
    lines = [f'    <box label="{BOX_LABEL}" occluded="0" source="manual" xtl="{left:.2f}" ytl="{top:.2f}" '
             f'xbr="{right:.2f}" ybr="{bottom:.2f}" z_order="0" group_id="{group}"></box>']
    if not dataset.num_keypoints[row]:
        return lines
    lines.append(f'    <skeleton label="{PERSON}" source="manual" z_order="0" group_id="{group}">')
    for name, (x, y, v) in zip(dataset.skeleton.names, dataset.keypoints[row].tolist(), strict=True):
        lines.append(f'      <points label={quoteattr(name)} source="manual" outside="{int(v == UNLABELLED)}" '
                     f'occluded="{int(v == HIDDEN)}" points="{x:.2f},{y:.2f}"></points>')
    return [*lines, "    </skeleton>"]


def _labels_xml(skeleton: Skeleton, svg: str) -> str:
    subs = "".join(f"<label><name>{escape(name)}</name><type>points</type><parent>{PERSON}</parent></label>"
                   for name in skeleton.names)
    return (f"<label><name>{PERSON}</name><type>skeleton</type><svg>{escape(svg)}</svg></label>{subs}"
            f"<label><name>{BOX_LABEL}</name><type>rectangle</type></label>")


def _labels_json(skeleton: Skeleton, svg: str) -> list[dict[str, object]]:
    subs = [{"name": name, "type": "points", "attributes": []} for name in skeleton.names]
    return [{"name": PERSON, "type": "skeleton", "attributes": [], "sublabels": subs, "svg": svg},
            {"name": BOX_LABEL, "type": "rectangle", "attributes": []}]


def _svg(skeleton: Skeleton) -> str:
    """The template that CVAT draws new skeletons by: keypoints on a circle, which says which is which and no more."""
    turn = 2 * math.pi / len(skeleton)
    places = [(50 + 40 * math.sin(k * turn), 50 - 40 * math.cos(k * turn)) for k in range(len(skeleton))]
    lines = [f'<line x1="{places[a][0]:.2f}" y1="{places[a][1]:.2f}" x2="{places[b][0]:.2f}" y2="{places[b][1]:.2f}" '
             f'stroke="black" stroke-width="0.5" data-type="edge" '
             f'data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
             for a, b in skeleton.limb_index]
    nodes = [f'<circle r="0.75" cx="{x:.2f}" cy="{y:.2f}" stroke="black" stroke-width="0.1" fill="#b3b3b3" '
             f'data-type="element node" data-element-id="{k}" '
             f'data-node-id="{k}" data-label-name={quoteattr(name)}></circle>'
             for k, ((x, y), name) in enumerate(zip(places, skeleton.names, strict=True), 1)]
    return "".join(lines + nodes)
