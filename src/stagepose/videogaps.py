"""Frames missing from a video that does not announce their number, told by its clock. Times are seconds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

TOLERATED = 0.02  # of a video's length, at its end: the announced length is rounded
LAST_FRAMES = 2  # or so many frames, whose own length some files leave out
LONGEST_STEP = 3  # usual steps from a frame to the next: a decoder that loses its way drops one or two
EVEN = 0.9  # share of the usual step, from which on the rate is meant to be constant
ROUNDING = 1  # milliseconds: as finely as Matroska and FLV count


@dataclass
class Pace:
    """The steps from frame to frame, as they come: whether all but a few are equal, and where the others are."""

    _last: float | None = None
    _steps: Counter[int] = field(default_factory=Counter)  # by milliseconds: no more memory for more frames
    _longest: tuple[float, float] = (0.0, 0.0)  # times of the frames around it

    def add(self, time: float) -> None:
        """The next frame's."""
        if self._last is not None:
            self._steps[round(1000 * (time - self._last))] += 1
            if time - self._last > self._longest[1] - self._longest[0]:
                self._longest = self._last, time
        self._last = time

    def notice(self, start: float) -> str | None:
        """A line on where a video of constant frame rate skips; else None. Its clock begins at ``start``."""
        usual = self._steps.most_common(1)[0][0] if self._steps else 0
        even = sum(count for step, count in self._steps.items() if abs(step - usual) <= ROUNDING)
        skips = sum(count for step, count in self._steps.items() if step > LONGEST_STEP * (usual + ROUNDING))
        if not skips or even < EVEN * self._steps.total():
            return None
        before, after = (time - start for time in self._longest)
        others = f", and {skips - 1} shorter gaps" if skips > 1 else ""
        return f"has no frames from second {before:.2f} to {after:.2f}{others}; they are lost, or were never taken"


def end_notice(reached: float, announced: float, start: float, rate: float) -> str | None:
    """A line on a file that ends before its announced end; else None.

    ``reached`` is where its last picture or sound ends, ``announced`` its length as it says. Some files count that from
    0, some from ``start``, the time of the first: a file that fits either is whole.
    """
    reached = max(reached, reached - start)
    if announced - reached <= max(TOLERATED * announced, LAST_FRAMES / rate):
        return None
    return f"ends at second {reached:.2f} of the {announced:.2f} that it announces"
