"""An experiment's results as a Markdown table and a plot, beside the report's figures."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagepose import __version__, files
from stagepose.errors import MissingExtraError
from stagepose.training.experiments.plan import Experiment

NOTICE = ("Behind the report's figures stands no input size, loss, optimiser, schedule or detector: signs and sizes of "
          "effects can be compared, not the figures.")
TINY = "**This was a rehearsal of a few steps: it shows that everything runs, and answers nothing.**"


@dataclass(frozen=True)
class Outcome:
    """AP of every arm and seed, in percent."""

    experiment: Experiment
    ap: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, experiment: Experiment, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Outcome:
        """From what the runner gives."""
        return cls(experiment, {name: [100 * one["ap"] for one in runs] for name, runs in results.items()})

    def rows(self) -> list[list[str]]:
        """Arm, the report's AP and its difference to the first arm; ours, the mean with its spread, and by seed."""
        first = self.experiment.arms[0]
        base = statistics.fmean(self.ap[first.name])
        rows = []
        for arm in self.experiment.arms:
            aps = self.ap[arm.name]
            mean = statistics.fmean(aps)
            change = arm.published - first.published if arm.published and first.published else None
            rows.append([
                arm.name, arm.recipe.pose.network,
                f"{arm.published:.1f}" if arm.published else "", f"{change:+.1f}" if change is not None else "",
                _with_spread(aps), f"{mean - base:+.1f}", ", ".join(f"{ap:.1f}" for ap in aps),
            ])  # fmt: skip
        return rows


def _with_spread(aps: Sequence[float]) -> str:
    mean = statistics.fmean(aps)
    return f"{mean:.1f} ± {statistics.stdev(aps):.1f}" if len(aps) > 1 else f"{mean:.1f}"


def write_outcome(outcome: Outcome, out: Path, *, command: str, data: str) -> None:
    """OUT/NAME.md and OUT/NAME.png."""
    name = outcome.experiment.name
    _plot(outcome, out / f"{name}.png")
    files.write_text(out / f"{name}.md", "\n".join(_lines(outcome, command, data)))


def _lines(outcome: Outcome, command: str, data: str) -> list[str]:
    chosen = outcome.experiment
    sizes = {arm.recipe.pose.size for arm in chosen.arms}
    budget = {arm.shown for arm in chosen.arms}
    return [
        f"# {chosen.question}", "",
        f"`{command}`, StagePose {__version__}, scale *{chosen.scale}*: {chosen.seeds} seeds, "
        f"{' or '.join(f'{samples:,}' for samples in sorted(budget))} samples a run, input "
        f"{' or '.join(f'{h}x{w}' for w, h in sorted(sizes))}. {data}", "",
        *([TINY, ""] if chosen.scale == "tiny" else []),
        "| arm | network | report's AP | difference | our AP, mean ± standard deviation | difference | by seed |",
        "|---|---|---|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in outcome.rows()), "",
        f"Differences are to the first arm. AP in percent, of the averaged weights at the end of the schedule, with "
        f"ground-truth boxes. Report's figures: {chosen.published_where}. {NOTICE}", "",
        f"![AP by arm]({chosen.name}.png)", "",
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
        aps = list(outcome.ap[arm.name])
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
