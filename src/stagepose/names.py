"""What somebody means by a name that there is none of: what other tools call so, else what is written nearly so."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ELSEWHERE = {  # what other tools call a command or a setting, and what has its use here
    "detect": ("predict",), "infer": ("predict",), "inference": ("predict",), "run": ("predict",),
    "evaluate": ("eval",), "test": ("eval",), "val": ("eval",),
    "conf": ("threshold",), "conf-thres": ("threshold",), "confidence": ("threshold",),
    "device": ("provider", "providers"), "gpu": ("provider", "providers", "device"),
    "epochs": ("samples",), "img-size": ("input-size", "tiles"), "imgsz": ("input-size", "tiles"),
    "max-det": ("max-people",), "model": ("pose",), "project": ("out",), "vid-stride": ("every",),
    "weights": ("pose", "init"),
}  # fmt: skip


def meant(word: str, names: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Those of ``names`` that may be meant by ``word``, which is none of them: ``count`` at most that are alike.

    ``cutoff`` is how alike, from 0 to 1. Names of options may have their dashes, those of settings their underscores.
    """
    names = list(names)
    known = ELSEWHERE.get(_plain(word), ())
    return [name for name in names if _plain(name) in known] or difflib.get_close_matches(word, names, count, cutoff)


def suggestion(word: str, names: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> str:
    """How a message about ``word``, which is none of ``names``, ends: ``; did you mean flip?``, or nothing."""
    near = meant(word, names, count=count, cutoff=cutoff)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _plain(name: str) -> str:
    return name.lstrip("-").replace("_", "-").lower()
