"""Keypoints without jitter: a One-Euro filter for every joint of every track (Casiez, Roussel, Vogel, CHI 2012).

A low-pass filter whose cutoff rises with speed: at rest it removes jitter, in motion it hardly lags. A joint's speed is
that against the body, whose own motion (walking, or the camera's panning) is taken over as it is: the median of the
joints' steps has little jitter, and filtered with the joints it would lag, and open all their filters. Speeds are in
body sizes a second, so that one setting fits people far and near, any resolution and any frame rate. Causal: a frame is
smoothed with those before it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError
from stagepose.structures import Person, is_within, require_people

Float = NDArray[np.float64]

SPEED_CUTOFF = 1.0  # Hz; of the speeds' own filter, as in the paper
SURE = 0.5  # joints scored from here on are believed fully; below, in proportion: for the rest they go with the body
LONGEST_GAP = 0.5  # seconds unseen after which a person begins anew


@dataclass
class _State:
    time: float
    points: Float  # (K, 2) smoothed
    raw: Float  # (K, 2) as found, as far as it was believed
    speeds: Float  # (K, 2) against the body, smoothed, pixels a second


class Smoother:
    """``smoother.update(people, time)`` -> the same people with smoothed keypoints; each needs its ``track_id``.

    ``cutoff`` in Hz at rest: lower is smoother. ``beta`` in Hz for one body size a second: higher lags less. A person's
    box and scores stay as they are.
    """

    def __init__(self, *, cutoff: float = 1.0, beta: float = 16.0) -> None:
        if not (is_within(cutoff, 0) and 0 < cutoff < np.inf and is_within(beta, 0) and beta < np.inf):
            raise ConfigError(f"cutoff is {cutoff!r} and beta {beta!r}; use a cutoff above 0 Hz and a beta from 0 on")
        self.cutoff, self.beta = cutoff, beta
        self._states: dict[int, _State] = {}
        self._time = -np.inf

    def update(self, people: Sequence[Person], time: float) -> list[Person]:
        """People of the frame at ``time`` seconds; :class:`ConfigError` for a time not after the last, or no id."""
        require_people("a smoother", people)
        if not self._time < time < np.inf:
            raise ConfigError(f"time is {time}, and the frame before had {self._time}; give seconds that increase")
        self._time = time
        self._states = {name: state for name, state in self._states.items() if time - state.time <= LONGEST_GAP}
        return [self._smoothed(person, time) for person in people]

    def _smoothed(self, person: Person, time: float) -> Person:
        if person.track_id is None:
            raise ConfigError("a person has no track_id; give the people to a Tracker first")
        state = self._states.get(person.track_id)
        if state is None:
            self._states[person.track_id] = _State(time, person.keypoints, person.keypoints,
                                                   np.zeros_like(person.keypoints))
            return person
        elapsed, size = time - state.time, np.sqrt(max(float(np.prod(person.box[2:] - person.box[:2])), 1.0))
        trust_K1, sure = np.minimum(person.scores / SURE, 1.0)[:, None], person.scores >= SURE
        body = np.median((person.keypoints - state.raw)[sure], axis=0) if sure.any() else np.zeros(2)
        raw, points = state.raw + body, state.points + body  # where they were, had the body alone moved
        own = trust_K1 * (person.keypoints - raw)
        speeds = state.speeds + _share(SPEED_CUTOFF, elapsed) * (own / elapsed - state.speeds)
        cutoffs_K = self.cutoff + self.beta * np.linalg.norm(speeds, axis=-1) / size
        points = points + trust_K1 * _share(cutoffs_K, elapsed)[:, None] * (person.keypoints - points)
        self._states[person.track_id] = _State(time, points, raw + own, speeds)
        return replace(person, keypoints=points)


def _share(cutoff: Float | float, elapsed: float) -> Float:
    """How much of the new value a first-order low-pass filter takes: 1 / (1 + tau / dt), tau = 1 / (2 pi cutoff)."""
    return np.asarray(1 / (1 + 1 / (2 * np.pi * np.asarray(cutoff) * elapsed)))
