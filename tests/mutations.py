"""JSON values with something else put where it should not be: ``from mutations import mutated``."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

NASTY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from([0, -1, 7, 0.5, "1", "nose", "person", 10**400, -(2**63), 2**63, 1e300, [], {}, [[]], [None],
                     "\ud800", {"id": 1}, [1, 2], [0, 0, 2], [float("inf")] * 4, [True] * 4, [1e308] * 4, [5] * 51]),
    st.recursive(st.none() | st.integers() | st.text(max_size=3),
                 lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                 max_leaves=5),
)  # fmt: skip


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a nested value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in pairs for place in ((value, key), *_places(inner))]


@st.composite
def mutated(draw: st.DrawFn, seed_value: Any) -> Any:
    value = copy.deepcopy(seed_value)
    for _ in range(draw(st.integers(1, 4))):
        places = _places(value)
        if not places:
            return draw(NASTY)
        container, key = places[draw(st.integers(0, len(places) - 1))]
        if draw(st.booleans()):
            container[key] = copy.deepcopy(draw(NASTY))  # the next mutation may change it
        else:
            del container[key]
    return value
