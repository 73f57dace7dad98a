"""Skeletons: which keypoints there are, in which order, how they mirror, how precisely people label them.

K keypoints. Published skeletons are constants here; a user's own comes from one small JSON or TOML file.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import SkeletonError
from stagepose.jsonkeys import KeyTwiceError, object_of
from stagepose.numeric import is_real

UNLABELLED, HIDDEN, VISIBLE = 0, 1, 2  # COCO's v of a keypoint; what is hidden is labelled all the same
DEFAULT_SIGMA = 0.05  # for keypoints nobody measured: the middle of COCO's .025 (eye) to .107 (hip)


@dataclass(frozen=True, kw_only=True, repr=False)
class Skeleton:
    """Names and structure of K keypoints.

    ``flip_pairs`` names that trade places in a mirrored picture; ``limbs`` pairs of names to draw; ``sigmas`` the
    per-keypoint constant of OKS (COCO's sigma; its k is 2 sigma); ``upper`` / ``lower`` the names of the two body
    halves, for half-body augmentation. Raises :class:`SkeletonError` naming the field and value that is wrong.
    """

    name: str
    names: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] = ()
    limbs: tuple[tuple[str, str], ...] = ()
    sigmas: tuple[float, ...] = ()
    upper: tuple[str, ...] = ()
    lower: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise SkeletonError(f"a skeleton's name is {self.name!r}; expected text")
        for part in ("names", "upper", "lower"):
            if not _is_all(getattr(self, part), str):
                raise SkeletonError(f"skeleton {self.name!r}: {part} is {getattr(self, part)!r}; expected a tuple of "
                                    "names")
        for part in ("flip_pairs", "limbs"):
            pairs = getattr(self, part)
            if not _is_all(pairs, (tuple, list)) or not all(_is_all(pair, str) for pair in pairs):
                raise SkeletonError(f"skeleton {self.name!r}: {part} is {pairs!r}; expected a tuple of pairs of names")
        if not isinstance(self.sigmas, (tuple, list)) or not all(map(is_real, self.sigmas)):
            raise SkeletonError(f"skeleton {self.name!r}: sigmas is {self.sigmas!r}; expected a tuple of numbers")
        if not self.names:
            raise SkeletonError(f"skeleton {self.name!r}: names is empty; give at least one keypoint name")
        twice = sorted({n for n in self.names if self.names.count(n) > 1})
        if twice:
            raise SkeletonError(f"skeleton {self.name!r}: names has {twice} more than once; names must differ")
        for part in ("flip_pairs", "limbs"):
            for pair in getattr(self, part):
                if len(pair) != 2 or pair[0] == pair[1]:
                    raise SkeletonError(f"skeleton {self.name!r}: {part} has {pair!r}; expected two different names")
                self._known(part, pair)
        flat = [n for pair in self.flip_pairs for n in pair]
        if len(flat) != len(set(flat)):
            raise SkeletonError(f"skeleton {self.name!r}: flip_pairs uses a name twice; each mirrors to one other")
        self._known("upper", self.upper)
        self._known("lower", self.lower)
        if not self.sigmas:
            object.__setattr__(self, "sigmas", (DEFAULT_SIGMA,) * len(self.names))
        if len(self.sigmas) != len(self.names) or not all(0 < s < 1 for s in self.sigmas):
            raise SkeletonError(
                f"skeleton {self.name!r}: sigmas has {len(self.sigmas)} values {self.sigmas}, "
                f"expected {len(self.names)} between 0 and 1"
            )

    def _known(self, part: str, names: Sequence[str]) -> None:
        unknown = [n for n in names if n not in self.names]
        if unknown:
            raise SkeletonError(f"skeleton {self.name!r}: {part} names {unknown}, which is not among {self.names}")

    def __repr__(self) -> str:
        """Short, since whoever looks at a person sees it; :meth:`to_json` tells all."""
        return f"<Skeleton {self.name}: {len(self)} keypoints>"

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Position of a keypoint; :class:`SkeletonError` lists the names when there is none of that name."""
        if name not in self.names:
            raise SkeletonError(f"skeleton {self.name!r} has no keypoint {name!r}; its keypoints are "
                                f"{', '.join(self.names)}")
        return self.names.index(name)

    @cached_property
    def flip_index(self) -> NDArray[np.int64]:
        """(K,) such that ``keypoints[flip_index]`` are those of the mirrored person, in this order."""
        order = np.arange(len(self.names))
        for left, right in self.flip_pairs:
            a, b = self.index(left), self.index(right)
            order[a], order[b] = b, a
        order.setflags(write=False)
        return order

    @cached_property
    def limb_index(self) -> tuple[tuple[int, int], ...]:
        """``limbs`` as index pairs."""
        return tuple((self.index(a), self.index(b)) for a, b in self.limbs)

    def to_json(self) -> dict[str, Any]:
        """A plain dict that :meth:`from_json` reads back."""
        return {
            "name": self.name,
            "names": list(self.names),
            "flip_pairs": [list(p) for p in self.flip_pairs],
            "limbs": [list(p) for p in self.limbs],
            "sigmas": list(self.sigmas),
            "upper": list(self.upper),
            "lower": list(self.lower),
        }

    def to_toml(self) -> str:
        """Text of a ``.toml`` file that :meth:`read` reads back."""
        # JSON's texts, numbers and lists are TOML's too, but for one character that TOML wants escaped
        lines = [f"{part} = {json.dumps(value, ensure_ascii=False)}\n" for part, value in self.to_json().items()
                 if value != []]
        return "".join(lines).replace("\x7f", "\\u007f")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Skeleton:
        """From a dict with ``names`` and any of the other fields; unknown fields are refused, not ignored."""
        if not isinstance(data, Mapping) or "names" not in data:
            got = "one without" if isinstance(data, Mapping) else repr(data)
            raise SkeletonError(f"a skeleton needs a table with 'names', a list of keypoint names; got {got}")
        known = set(cls.__dataclass_fields__)
        unknown = sorted(set(data) - known)
        if unknown:
            raise SkeletonError(f"a skeleton has no field {unknown}; the fields are {sorted(known)}")
        return cls(**{"name": "custom", **{part: _tuples(value) for part, value in data.items()}})

    @classmethod
    def read(cls, path: str | Path) -> Skeleton:
        """From a ``.json`` or ``.toml`` file of one skeleton."""
        data = read_table(Path(path))
        try:
            return cls.from_json(data)
        except SkeletonError as error:
            raise SkeletonError(f"{path}: {error}") from None


def read_table(path: Path) -> Any:
    """What a ``.json`` or ``.toml`` file holds; :class:`SkeletonError` where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows' editor begins a file with a mark
        toml = path.suffix.lower() == ".toml"
        return tomllib.loads(text) if toml else json.loads(text, object_pairs_hook=object_of)
    except OSError as error:
        raise SkeletonError(f"{path}: cannot read the skeleton file: {error.strerror}") from error
    except KeyTwiceError as error:
        raise SkeletonError(f"{path}: {error}; leave one out") from None
    except (ValueError, RecursionError) as error:
        raise SkeletonError(f"{path}: not valid {path.suffix or 'JSON'}: {error}") from error


def _is_all(values: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(values, (tuple, list)) and all(isinstance(value, kind) for value in values)


def _tuples(values: Any) -> Any:
    """A JSON list, and lists in it, as tuples; what is no list as it is, for the checks of :class:`Skeleton`."""
    if not isinstance(values, list):
        return values
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def map_by_name(source: Skeleton, target: Skeleton) -> NDArray[np.int64]:
    """(K_target,) index into ``source`` of each target keypoint of the same name, -1 where there is none."""
    return np.array([source.names.index(n) if n in source.names else -1 for n in target.names], dtype=np.int64)


_ARMS_LEGS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def _pairs(*parts: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"left_{p}", f"right_{p}") for p in parts)


def _body_limbs() -> tuple[tuple[str, str], ...]:
    chains = [("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("shoulder", "hip")]
    sides = [(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in chains]
    return (*sides, ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"))


# Sigmas: COCO keypoint evaluation (the constants of pycocotools). Limbs: COCO's own skeleton, drawn once each.
COCO_17 = Skeleton(
    name="coco17",
    names=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    flip_pairs=_pairs("eye", "ear", *_ARMS_LEGS),
    limbs=(
        *_body_limbs(),
        ("left_eye", "right_eye"), ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"),
        ("right_eye", "right_ear"), ("left_ear", "left_shoulder"), ("right_ear", "right_shoulder"),
    ),
    sigmas=(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062,
            0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
    upper=("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
           "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    lower=("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)

# Order: Johnson & Everingham 2011. LSP publishes no sigmas: COCO's where the joint is the same; neck and head top
# as mmpose's CrowdPose gives them (.079).
LSP_14 = Skeleton(
    name="lsp14",
    names=("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist",
           "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top"),
    flip_pairs=_pairs(*_ARMS_LEGS),
    limbs=(*_body_limbs(), ("neck", "head_top"), ("left_shoulder", "neck"), ("right_shoulder", "neck")),
    sigmas=(0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062, 0.079, 0.079),
    upper=("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
           "neck", "head_top"),
    lower=("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
)

# Order: Andriluka et al. 2014. Sigmas as mmpose lists them for MPII.
MPII_16 = Skeleton(
    name="mpii16",
    names=("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
           "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder",
           "left_elbow", "left_wrist"),
    flip_pairs=_pairs(*_ARMS_LEGS),
    limbs=(*_body_limbs()[:4], *_body_limbs()[5:9], ("pelvis", "left_hip"), ("pelvis", "right_hip"),
           ("pelvis", "thorax"), ("thorax", "left_shoulder"), ("thorax", "right_shoulder"),
           ("thorax", "upper_neck"), ("upper_neck", "head_top")),
    sigmas=(0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026, 0.026, 0.026, 0.062, 0.072, 0.179, 0.179,
            0.072, 0.062),
    upper=("thorax", "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder",
           "left_elbow", "left_wrist"),
    lower=("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis"),
)

# Names and order: the files of Li et al. 2019. Sigmas: the constants of its evaluation code.
CROWDPOSE_14 = Skeleton(
    name="crowdpose14",
    names=("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
           "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck"),
    flip_pairs=_pairs(*_ARMS_LEGS),
    limbs=(*_body_limbs(), ("head", "neck"), ("left_shoulder", "neck"), ("right_shoulder", "neck")),
    sigmas=(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
    upper=("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
           "head", "neck"),
    lower=("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)

SKELETONS = {s.name: s for s in (COCO_17, LSP_14, MPII_16, CROWDPOSE_14)}


def by_names(names: tuple[str, ...], limbs: Sequence[tuple[int, int]] = ()) -> Skeleton:
    """The published skeleton of exactly these names in this order, or one made from the names.

    A made one mirrors ``left_x`` with ``right_x`` (``l_x`` with ``r_x``) and takes sigmas and body halves of keypoints
    that COCO has too.
    """
    for known in SKELETONS.values():
        if known.names == names:
            return known
    sigmas = dict(zip(COCO_17.names, COCO_17.sigmas, strict=True))
    return Skeleton(
        name="custom",
        names=names,
        flip_pairs=tuple((n, m) for n in names if (m := _right_of(n, names))),
        limbs=tuple((names[a], names[b]) for a, b in limbs),
        sigmas=tuple(sigmas.get(n, DEFAULT_SIGMA) for n in names),
        upper=tuple(n for n in names if n in COCO_17.upper),
        lower=tuple(n for n in names if n in COCO_17.lower),
    )


def _right_of(name: str, names: Sequence[str]) -> str | None:
    """The keypoint that a left one trades places with: ``right_x`` of ``left_x``, ``x_r`` of ``x_l``, and the like."""
    words = name.split("_")
    for left, right in (("left", "right"), ("l", "r")):
        swapped = ["_".join(right if word == left else word for word in words)]
        if name.startswith(left):  # without a space: lefteye, leye
            swapped.append(right + name.removeprefix(left))
        for other in swapped:
            if other != name and other in names:
                return other
    return None


def target_skeleton(own: Skeleton) -> Skeleton:
    """What people are read as: the published skeleton of the same names in any order, else the file's own."""
    for known in SKELETONS.values():
        if known.names == own.names:
            return known
    for known in SKELETONS.values():
        if set(known.names) == set(own.names):
            return known
    return own


def union(first: Skeleton, second: Skeleton) -> Skeleton:
    """The keypoints of both, each name and each pair, whichever way round, once: for sets that label different ones."""
    def both(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*a, *(item for item in b if item not in a))

    def pairs(a: tuple[tuple[str, str], ...], b: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        return (*a, *(pair for pair in b if pair not in a and pair[::-1] not in a))

    new = [name for name in second.names if name not in first.names]
    return Skeleton(
        name=f"{first.name}+{second.name}", names=(*first.names, *new), flip_pairs=pairs(first.flip_pairs,
        second.flip_pairs), limbs=pairs(first.limbs, second.limbs),
        sigmas=(*first.sigmas, *(second.sigmas[second.index(name)] for name in new)),
        upper=both(first.upper, second.upper), lower=both(first.lower, second.lower))


def resolve(name_or_path: str, read: Callable[[Path], Skeleton] = Skeleton.read) -> Skeleton:
    """A published skeleton by name (``coco17``, ``lsp14``, ``mpii16``, ``crowdpose14``) or one that ``read`` reads.

    ``coco17+lsp14`` is the :func:`union` of two or more, files among them: ``coco17+mine.toml``.
    """
    if name_or_path in SKELETONS:
        return SKELETONS[name_or_path]
    path = Path(name_or_path)
    if path.suffix.lower() in {".json", ".toml"} and ("+" not in name_or_path or path.is_file()):
        return read(path)
    if "+" in name_or_path:
        return reduce(union, (resolve(part, read) for part in name_or_path.split("+")))
    raise SkeletonError(f"no skeleton named {name_or_path!r}; use one of {sorted(SKELETONS)}, a .json / .toml file, or "
                        "several of them as coco17+lsp14")
