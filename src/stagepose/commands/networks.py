"""``stagepose networks``: every pose network by name, and what it costs."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from tyro.conf import Positional, arg

from stagepose.commands.arguments import UNSAID, OptionalCount
from stagepose.commands.console import counted, counter, note, say, table, wrong_usage
from stagepose.training.machine import use_threads
from stagepose.training.networks import cost, zoo
from stagepose.training.networks.zoo import StageOptions
from stagepose.training.trial import tried

SIZES = ((192, 256), (288, 384))  # (width, height) that the literature reports

Names = Positional[Annotated[list[str], arg(metavar="[NETWORK ...]", help_behavior_hint=UNSAID)]]


def networks(
    names: Names = [],  # noqa: B006 (read only; tyro wants a list)
    *,
    latency: bool = False,
    threads: OptionalCount = None,
    keypoints: int = 17,
    concat_heatmaps: bool = False,
    residual: bool = False,
    aggregate: bool = False,
    check: bool = False,
) -> int:
    """List the pose networks with their parameters and their multiply-accumulates.

    Args:
        names: Only these; by default all, or, with an option that joins stages, all that have several.
        latency: Also measure each on this CPU: the median milliseconds per person at 256x192. Takes minutes.
        threads: CPU threads for --latency; all cores by default.
        keypoints: Keypoints that the networks are built for.
        concat_heatmaps: Let later stages see the previous stage's heatmaps.
        residual: Let later stages add to the previous stage's heatmaps.
        aggregate: Let later stages see all levels of the previous stage.
        check: Instead, check that the named networks support training, export and fine-tuning, on four synthetic
            pictures: one line each, and exit code 1 if training lacks something.
    """
    for name in names:
        zoo.check_name(name)
    used = use_threads(threads)
    options = StageOptions(concat_heatmaps=concat_heatmaps, residual=residual, aggregate=aggregate)
    if check:
        if not names or latency or options != StageOptions():
            wrong_usage("--check tries networks by name, as their recipes have them: stagepose networks NAME --check")
        found = [_check(name, keypoints) for name in names]  # all of them, also after one that lacks something
        return int(not all(found))
    shown = names or list(zoo.NETWORKS if options == StageOptions() else zoo.ROWS)
    headings = ["network", "stages", "M parameters", *(f"GMACs {h}x{w}" for w, h in SIZES)]
    rows = []
    with counter("networks") as count:
        for i, name in enumerate(shown):
            rows.append(_row(name, keypoints, options, latency=latency))
            count(i + 1, len(shown))
    table(headings + ["ms a person"] * latency, rows)
    note(f"GMACs: 1e9 {cost.COUNTED}")
    if latency:
        note(f"ms: median, torch, float32, {counted(used, 'thread', 'threads')}, {SIZES[0][1]}x{SIZES[0][0]}")
    return 0


def _check(name: str, keypoints: int) -> bool:
    """Print what is found; whether it can be trained."""
    say(name)
    found = []
    for finding in tried(name, keypoints):
        say(f"  {finding}")
        found.append(finding)
    return all(finding.ok for finding in found if finding.needed)


def _row(name: str, keypoints: int, options: StageOptions, *, latency: bool) -> list[str]:
    make = partial(zoo.build, name, keypoints, options)
    network = cost.on_meta(make)
    counts = [cost.count(network, size) for size in SIZES]
    return [name, str(len(counts[0].levels)), f"{cost.parameters(network) / 1e6:.2f}",
            *(f"{count.macs / 1e9:.2f}" for count in counts),
            *([f"{cost.latency(make(), SIZES[0]):.1f}"] if latency else [])]
