"""Keypoints without jitter: a One-Euro filter for every joint of every track (Casiez, Roussel, Vogel, CHI 2012).

A low-pass filter whose cutoff rises with speed: at rest it removes jitter, in motion it hardly lags. It rises here with
the speed's square, which leaves more of both: what jitter makes of a speed opens the filter less, and real motion more.

The body's own motion (walking, or the camera's panning), the median of its joints' steps, is filtered apart, and the
joints against it: filtered in one, they would lag while a body moves, and all their filters would be open. Speeds are
in body sizes a second, so that one setting fits people far and near, any resolution and any frame rate. Causal: a frame
is smoothed with those before it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stagepose.aliases import Float
from stagepose.errors import ConfigError
from stagepose.structures import Person, is_within, require_people

SPEED_CUTOFF = 1.0  # Hz; of the speeds' own filter, as in the paper
BODY_SPEED_CUTOFF = 3.0  # Hz; of the body's speed: it has less jitter, and whoever turns round is followed sooner
BODY_BETA = 4.0  # times a joint's beta, since a body's lag is that of all joints
SURE = 0.5  # joints that score this or more are trusted fully; below, in proportion: the rest follows the body
LONGEST_GAP = 0.5  # seconds unseen after which a person's filter starts over


@dataclass
class _State:
    time: float
    points: Float  # (K, 2) smoothed
    raw: Float  # (K, 2) as found, as far as trusted
    speeds: Float  # (K, 2) against the body, smoothed, pixels a second
    lag: Float  # (2,) of the smoothed body behind the one that was found
    speed: Float  # (2,) of the body, smoothed, pixels a second


class Smoother:
    """``smoother.update(people, time)`` -> the same people with smoothed keypoints; each needs its ``track_id``.

    ``cutoff`` in Hz at rest: lower is smoother. ``beta`` in Hz more at one body size a second, four times that at two:
    higher lags less. A person's box and scores stay as they are.
    """

    def __init__(self, *, cutoff: float = 1.0, beta: float = 64.0) -> None:
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
        self._states = {track_id: state for track_id, state in self._states.items()
                        if time - state.time <= LONGEST_GAP}
        return [self._smoothed(person, time) for person in people]

    def _smoothed(self, person: Person, time: float) -> Person:
        if person.track_id is None:
            raise ConfigError("a person has no track_id; give the people to a Tracker first")
        state = self._states.get(person.track_id)
        if state is None:
            found = person.keypoints
            self._states[person.track_id] = _State(time, found, found, np.zeros_like(found), np.zeros(2), np.zeros(2))
            return person
        elapsed, size = time - state.time, np.sqrt(max(float(np.prod(person.box[2:] - person.box[:2])), 1.0))
        trust_K1, sure = np.minimum(person.scores / SURE, 1.0)[:, None], person.scores >= SURE
        body = np.median((person.keypoints - state.raw)[sure], axis=0) if sure.any() else np.zeros(2)
        speed = state.speed + _share(BODY_SPEED_CUTOFF, elapsed) * (body / elapsed - state.speed)
        step = self._share_at(speed / size, elapsed, BODY_BETA) * (state.lag + body)
        lag = state.lag + body - step

        raw = state.raw + body  # where the joints would be, had the body alone moved
        own = trust_K1 * (person.keypoints - raw)
        speeds = state.speeds + _share(SPEED_CUTOFF, elapsed) * (own / elapsed - state.speeds)
        points = state.points + step
        points = points + trust_K1 * self._share_at(speeds / size, elapsed) * (person.keypoints - lag - points)
        self._states[person.track_id] = _State(time, points, raw + own, speeds, lag, speed)
        return replace(person, keypoints=points)

    def _share_at(self, speeds: Float, elapsed: float, times: float = 1.0) -> Float:
        """(..., 1) how much of the new value is taken at speeds (..., 2) in body sizes a second."""
        return _share(self.cutoff + times * self.beta * (speeds**2).sum(-1, keepdims=True), elapsed)


def _share(cutoff: Float | float, elapsed: float) -> Float:
    """How much of the new value a first-order low-pass filter takes: 1 / (1 + tau / dt), tau = 1 / (2 pi cutoff)."""
    return np.asarray(1 / (1 + 1 / (2 * np.pi * np.asarray(cutoff) * elapsed)))
