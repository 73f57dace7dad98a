"""Who people are and what they wear, as numbers: traits of the body, skin, hair, garments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32, Rng
from stagepose.rendering.body import ANCESTRIES, Traits
from stagepose.rendering.chart import Chart
from stagepose.rendering.patterns import Pattern, Waves, draw_pattern, linear

SKIN = np.stack([linear(tone) for tone in (
    (250, 222, 204), (238, 196, 168), (216, 166, 132), (182, 126, 92), (138, 90, 62), (94, 60, 44), (62, 40, 31),
)])  # fmt: skip  # light to dark
SKIN_RANGE = {"caucasian": (0.0, 0.45), "asian": (0.12, 0.6), "african": (0.55, 1.0)}  # of that row
LIPS = linear((236, 170, 168))  # of the skin's light
IRISES = ((70, 44, 28), (96, 74, 44), (92, 120, 140))
HAIR_COLOURS = ((22, 18, 17), (48, 32, 24), (84, 58, 38), (150, 112, 66), (206, 172, 112), (128, 60, 32))
HAIR_ODDS = {"caucasian": (0.2, 0.3, 0.22, 0.13, 0.1, 0.05), "asian": (0.7, 0.26, 0.04, 0, 0, 0),
             "african": (0.75, 0.22, 0.03, 0, 0, 0)}  # fmt: skip
GREYS = ((150, 148, 146), (228, 226, 222))
STYLES = ("bald", "short", "full", "round", "long", "cap")
STYLE_ODDS = {True: (0.02, 0.16, 0.15, 0.1, 0.5, 0.07), False: (0.13, 0.42, 0.22, 0.06, 0.04, 0.13)}  # woman or not
DEPTHS = {"bald": (0, 0), "short": (0.006, 0.016), "full": (0.018, 0.032), "round": (0.04, 0.075),
          "long": (0.01, 0.02), "cap": (0.008, 0.016)}  # fmt: skip  # metres of hair above the skull

COLLAR = -1.44  # level above which a garment would be a hood
TO_THE_TOES = 9.0  # a hem beyond everything


@dataclass(frozen=True, kw_only=True, eq=False)
class Garment:
    """From ``top`` to ``hem`` in levels, down the arm to ``sleeve``, without the neck within ``neckline`` metres.

    ``open`` metres to both sides of its front's middle that show what is below; ``ease`` metres between it and the
    body; ``crease`` how deep its folds look.
    """

    top: float
    hem: float
    pattern: Pattern
    creases: Waves
    sleeve: float = -1.0
    neckline: float = 0.0
    open: float = 0.0
    ease: float = 0.01
    crease: float = 0.3

    def covers(self, at: Chart) -> NDArray[np.bool_]:
        """(S,) which places it hides."""
        trunk = (at.level > self.top) & (at.level < self.hem) & (at.neck > self.neckline) & ~at.on_arm
        covered: NDArray[np.bool_] = trunk | (at.on_arm & (at.arm < self.sleeve))
        if self.open:
            covered &= at.on_arm | (np.abs(at.rest[:, 0]) > self.open) | (at.rest[:, 2] < 0)
        return covered


@dataclass(frozen=True, kw_only=True, eq=False)
class Outfit:
    """All that one person shows; ``garments`` from the inside out; ``hair_end`` metres (on the chart) of long hair."""

    skin: Float32
    mottle: Waves
    iris: Float32
    hair: Float32
    strands: Waves
    style: str
    hair_depth: float
    hair_end: float
    beard: float
    cap: Pattern
    garments: tuple[Garment, ...]
    skirt: Garment | None


def draw_traits(rng: Rng) -> Traits:
    """A random body: all ages from three years on, mostly grown up."""
    child = rng.random() < 0.15
    age = rng.uniform(0.06, 0.3) if child else np.clip(rng.normal(0.56, 0.14), 0.32, 0.95)
    first, second, third = rng.dirichlet((0.35, 0.35, 0.35)).tolist()
    total = first + second + third
    return Traits(
        gender=float(rng.beta(0.35, 0.35)), age=float(age), muscle=float(rng.beta(4, 4)),
        weight=float(rng.beta(3, 3)), height=float(rng.beta(4, 4)), proportions=float(rng.beta(4, 3)),
        ancestry=(first / total, second / total, third / total),
    )  # fmt: skip


def draw_outfit(rng: Rng, traits: Traits) -> Outfit:
    """A random look that goes with a body."""
    ancestry = ANCESTRIES[int(np.argmax(traits.ancestry))]
    woman, grown = traits.gender < 0.5, traits.age > 0.4
    style = STYLES[rng.choice(len(STYLES), p=STYLE_ODDS[woman])]
    garments, skirt = _draw_garments(rng, woman)
    return Outfit(
        skin=_draw_skin(rng, ancestry),
        mottle=Waves(rng, size=0.05, count=4),
        iris=linear(IRISES[rng.choice(3, p=(0.5, 0.2, 0.3) if ancestry == "caucasian" else (0.95, 0.05, 0))]),
        hair=_draw_hair(rng, ancestry, traits.age),
        strands=Waves(rng, size=0.012, count=4),
        style=style,
        hair_depth=float(rng.uniform(*DEPTHS[style])),
        hair_end=float(rng.uniform(0.3, 0.6)),
        beard=0.0 if woman or not grown or rng.random() < 0.6 else float(rng.uniform(0.3, 0.9)),
        cap=draw_pattern(rng, kinds=("plain", "across")),
        garments=garments,
        skirt=skirt,
    )


def _draw_skin(rng: Rng, ancestry: str) -> Float32:
    tone = rng.uniform(*SKIN_RANGE[ancestry]) * (len(SKIN) - 1)
    return np.array([np.interp(tone, np.arange(len(SKIN)), SKIN[:, c]) for c in range(3)], dtype=np.float32)


def _draw_hair(rng: Rng, ancestry: str, age: float) -> Float32:
    odds = np.array(HAIR_ODDS[ancestry])
    grey = rng.random() < (age - 0.65) * 2.5
    colour = GREYS[rng.integers(2)] if grey else HAIR_COLOURS[rng.choice(len(odds), p=odds / odds.sum())]
    return linear(np.clip(np.array(colour) + rng.normal(0, 6, 3), 8, 240))


def _draw_garments(rng: Rng, woman: bool) -> tuple[tuple[Garment, ...], Garment | None]:
    """Socks, something below, shoes, something above, perhaps a jacket; and a skirt."""
    shod = rng.random() < 0.92
    waist = float(rng.uniform(-0.42, -0.25))
    skirt = None
    if woman and rng.random() < 0.3:
        skirt = _garment(rng, top=-TO_THE_TOES, hem=rng.uniform(0.45, 1.75), ease=rng.uniform(0.012, 0.03))
        below = _like(skirt, top=waist, hem=0.3, ease=0.004)
    else:
        leg = rng.uniform(1.75, 2.03) if rng.random() < 0.62 else rng.uniform(0.28, 0.95)
        below = _garment(rng, sober=0.7, top=waist, hem=leg, ease=rng.choice((0.004, 0.01, 0.018, 0.028)))
    layers = [below]
    if shod and rng.random() < 0.65:
        layers.insert(0, _garment(rng, sober=0.7, top=rng.uniform(1.55, 1.9), hem=TO_THE_TOES, ease=0.003))
    if woman or rng.random() < 0.94:
        above = _draw_top(rng, waist, skirt if skirt is not None and rng.random() < 0.5 else None)
        tucked = rng.random() < 0.35
        layers.insert(0 if tucked else len(layers), above)
    if shod:
        layers.append(_garment(rng, sober=0.85, top=rng.choice((2.02, 2.02, 1.9, 1.45)), hem=TO_THE_TOES, ease=0.008))
    if rng.random() < 0.25:
        layers.append(_garment(rng, sober=0.6, top=COLLAR, hem=rng.uniform(-0.05, 0.45),
                               sleeve=rng.uniform(1.8, 2.05), open=rng.uniform(0.0, 0.09),
                               neckline=rng.uniform(0.09, 0.115), ease=rng.uniform(0.02, 0.038)))
    return tuple(layers), skirt


def _draw_top(rng: Rng, waist: float, dress: Garment | None) -> Garment:
    """From a vest to a sweater; or the upper half of a dress."""
    sleeve = float(rng.choice((-0.2, rng.uniform(0.2, 0.75), rng.uniform(1.75, 2.0)), p=(0.14, 0.5, 0.36)))
    neckline = float(rng.uniform(0.085, 0.125))
    if dress is not None:
        return _like(dress, top=COLLAR, hem=0.1, ease=0.008, sleeve=sleeve, neckline=neckline)
    return _garment(rng, top=COLLAR, hem=rng.uniform(waist + 0.06, 0.2), sleeve=sleeve, neckline=neckline,
                    ease=rng.choice((0.003, 0.01, 0.018, 0.026)))


def _garment(rng: Rng, *, sober: float = 0.2, **cut: float) -> Garment:
    return Garment(pattern=draw_pattern(rng, sober=sober), creases=Waves(rng, size=rng.uniform(0.07, 0.16), count=5),
                   crease=rng.uniform(0.15, 0.45), **{name: float(value) for name, value in cut.items()})


def _like(other: Garment, **cut: float) -> Garment:
    """Another cut of the same cloth."""
    return Garment(pattern=other.pattern, creases=other.creases, crease=other.crease, **cut)
