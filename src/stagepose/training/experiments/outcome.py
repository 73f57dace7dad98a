"""An experiment's results as a Markdown table and a plot, beside the report's figures."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagepose import __version__, files
from stagepose.errors import MissingExtraError
from stagepose.evaluation.bootstrap import Interval
from stagepose.evaluation.seeds import student
from stagepose.training.experiments.plan import Experiment

NOTICE = ("Behind the report's figures stands no input size, loss, optimiser, schedule or detector: signs and sizes of "
          "effects can be compared, not the figures.")
TINY = "**This was a rehearsal of a few steps: it shows that everything runs, and answers nothing.**"


UNTOLD = "not told apart"
ONE_SEED = "one seed: needs two or more"


@dataclass(frozen=True)
class Outcome:
    """AP of every arm by seed, in percent; None of a run that is not finished."""

    experiment: Experiment
    ap: Mapping[str, Sequence[float | None]]

    @classmethod
    def of(cls, experiment: Experiment, results: Mapping[str, Sequence[Mapping[str, Any] | None]]) -> Outcome:
        """From what the runner gives."""
        return cls(experiment, {name: [None if one is None else 100 * one["ap"] for one in runs]
                                for name, runs in results.items()})

    @property
    def finished(self) -> int:
        """Runs."""
        return sum(len(self.known(arm.name)) for arm in self.experiment.arms)

    @property
    def runs(self) -> int:
        """All of them."""
        return sum(len(self.ap[arm.name]) for arm in self.experiment.arms)

    def known(self, arm: str) -> list[float]:
        """Of the finished runs, in the order of their seeds."""
        return [ap for ap in self.ap[arm] if ap is not None]

    def differences(self, arm: str) -> list[float]:
        """To the first arm's run of the same seed, which shows as many samples in the same order; seed by seed."""
        pairs = zip(self.ap[arm], self.ap[self.experiment.arms[0].name], strict=True)
        return [ap - base for ap, base in pairs if ap is not None and base is not None]

    def rows(self) -> list[list[str]]:
        """Arm, the report's AP and its difference to the first arm; ours, the mean with its spread, and by seed; then

        the differences by seed, and their 95 % interval.
        """
        first = self.experiment.arms[0]
        rows = []
        for arm in self.experiment.arms:
            aps, apart = self.known(arm.name), self.differences(arm.name)
            change = arm.published - first.published if arm.published and first.published else None
            rows.append([
                arm.name, arm.recipe.pose.network,
                f"{arm.published:.1f}" if arm.published else "", f"{change:+.1f}" if change is not None else "",
                _with_spread(aps), f"{statistics.fmean(apart):+.1f}" if apart else "",
                ", ".join(f"{ap:.1f}" for ap in aps),
                *(["", ""] if arm is first else [", ".join(f"{one:+.1f}" for one in apart), _told(apart)]),
            ])  # fmt: skip
        return rows


def _with_spread(aps: Sequence[float]) -> str:
    if not aps:
        return ""
    mean = statistics.fmean(aps)
    return f"{mean:.1f} ± {statistics.stdev(aps):.1f}" if len(aps) > 1 else f"{mean:.1f}"


def t_interval(values: Sequence[float]) -> Interval:
    """95 % interval of the mean of two or more values, by Student's t."""
    mean = statistics.fmean(values)
    half = student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def _told(apart: Sequence[float]) -> str:
    """The interval of differences by seed, and whether it holds 0."""
    if len(apart) < 2:
        return ONE_SEED if apart else ""
    within = t_interval(apart)
    return (f"{within.low:+.1f} to {within.high:+.1f}"
            + (f", {UNTOLD}" if within.low <= 0 <= within.high else ""))


def write_outcome(outcome: Outcome, out: Path, *, command: str, data: str) -> None:
    """OUT/NAME.md, and OUT/NAME.png where all runs are finished."""
    name = outcome.experiment.name
    if outcome.finished == outcome.runs:
        _plot(outcome, out / f"{name}.png")
    files.write_text(out / f"{name}.md", "\n".join(_lines(outcome, command, data)))


def _lines(outcome: Outcome, command: str, data: str) -> list[str]:
    chosen, is_done = outcome.experiment, outcome.finished == outcome.runs
    sizes = {arm.recipe.pose.size for arm in chosen.arms}
    budget = {arm.shown for arm in chosen.arms}
    return [
        f"# {chosen.question}", "",
        f"`{command}`, StagePose {__version__}, scale *{chosen.scale}*: {chosen.seeds} seeds, "
        f"{' or '.join(f'{samples:,}' for samples in sorted(budget))} samples a run, input "
        f"{' or '.join(f'{h}x{w}' for w, h in sorted(sizes))}. {data}", "",
        *([TINY, ""] if chosen.scale == "tiny" else []),
        *([] if is_done else [f"**{outcome.finished} of {outcome.runs} runs done**: means are of those.", ""]),
        "| arm | network | report's AP | difference | our AP, mean ± standard deviation | difference | by seed "
        "| differences by seed | their 95 % interval |",
        "|---|---|---|---|---|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in outcome.rows()), "",
        f"Differences are to the first arm, ours seed by seed: to its run of the same seed, with the same order of "
        f"samples. Their interval is Student's t over the seeds; where it holds 0, the arms are {UNTOLD}. What the "
        "choice of the validation pictures adds, `stagepose compare RUN... --against RUN...` tells. AP in percent, of "
        f"the averaged weights at the end of the schedule, with ground-truth boxes. Report's figures: "
        f"{chosen.published_where}. {NOTICE}", "",
        *([f"![AP by arm]({chosen.name}.png)", ""] if is_done else []),
    ]  # fmt: skip


def require_plots() -> None:
    """:class:`MissingExtraError` before hours of training rather than after."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("an experiment's plot needs matplotlib: pip install \"stagepose[plots]\"") from error


def _plot(outcome: Outcome, path: Path) -> None:
    """Ours with every seed as a dot, and the report's beside it on a scale of its own: only differences compare."""
    require_plots()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    arms = outcome.experiment.arms
    published = [(i, arm.published) for i, arm in enumerate(arms) if arm.published]
    figure = Figure(figsize=(5.2 * (1 + bool(published)), 0.5 * len(arms) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 1 + bool(published), sharey=True, squeeze=False)[0]
    for i, arm in enumerate(arms):
        aps = outcome.known(arm.name)
        spread = statistics.stdev(aps) if len(aps) > 1 else 0.0
        panels[0].errorbar(statistics.fmean(aps), i, xerr=spread, fmt="o", color="#0072B2", capsize=4)
        panels[0].plot(aps, [i] * len(aps), "|", color="#56B4E9", markersize=11)
    panels[0].set(title="ours: mean, standard deviation, seeds", xlabel="AP, %", yticks=range(len(arms)))
    panels[0].set_yticklabels([arm.name for arm in arms])
    panels[0].invert_yaxis()
    if published:
        panels[1].plot([ap for _, ap in published], [i for i, _ in published], "s", color="#D55E00")
        panels[1].set(title="the report's", xlabel="AP, %")
    for panel in panels:
        panel.grid(axis="x", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    files.write_bytes(path, drawn.getvalue())
