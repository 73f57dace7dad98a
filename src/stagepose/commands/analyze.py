"""``stagepose analyze``: why people are not found as well as they could be, as one page and as JSON."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import OmitArgPrefixes

from stagepose import coco
from stagepose.commands.arguments import Folder, JsonFile
from stagepose.commands.console import counted, note, say, table
from stagepose.commands.judging import PeopleOptions, find_people
from stagepose.errors import ConfigError
from stagepose.evaluation.analysis import WORST, Analysis, analyze
from stagepose.evaluation.bootstrap import RESAMPLES, check_draws
from stagepose.evaluation.report import write_report
from stagepose.evaluation.taxonomy import KINDS
from stagepose.files import require_place, write_json
from stagepose.lines import printable

DEFAULT_PEOPLE = PeopleOptions()


def analyze_results(
    file: JsonFile,
    *,
    people: OmitArgPrefixes[PeopleOptions] = DEFAULT_PEOPLE,
    out: Folder = Path("stagepose-analysis"),
    gallery: int = WORST,
    bootstrap: int = RESAMPLES,
    seed: int = 0,
) -> None:
    """Show why people are not found as well as they could be, and what fixing each kind of error would gain.

    Sorts every joint into good, jitter, inversion, swap and miss (Ronchi and Perona 2017), every result and person into
    right, second find, found where nobody is, and missed. Writes OUT/report.html, one page with charts, tables and a
    gallery that needs no network, and OUT/analysis.json.

    Args:
        file: COCO annotation file with the ground truth.
        people: What is judged.
        out: Folder for the two files. The page shows pictures of the set: mind their licence before you share it.
        gallery: How many of the worst-found people to show, one by one.
        bootstrap: Bootstrap resamples behind the confidence intervals; at least 100, or 0 for none.
        seed: Random seed of the bootstrap.
    """
    if gallery < 0:
        raise ConfigError(f"gallery is {gallery}; use 0 or more people")
    if bootstrap:
        check_draws(bootstrap, seed)
    require_place(out / "report.html")
    found = find_people(file, people, besides=("--images",))
    of = people.results.name if people.results is not None else " + ".join(Path(name).name for name in people.pose)
    analysis = analyze(found.dataset, found.results, resamples=bootstrap, seed=seed, worst=gallery,
                       of=f"{of} on {file.name}")
    _print(analysis)  # first: a full disk must not cost the numbers
    folder = coco.images_folder(file, people.images)
    blank = write_report(out / "report.html", analysis, found.dataset.skeleton, folder if folder.is_dir() else None)
    write_json(out / "analysis.json", analysis.to_json())
    if blank:
        note(f"{counted(blank, 'picture', 'pictures')} of the gallery left grey: not readable in "
             f"{printable(folder)}")
    note(f"written to {printable(out / 'report.html')} and analysis.json beside it")


def _print(analysis: Analysis) -> None:
    joints = max(1, sum(analysis.errors[kind] for kind in KINDS))
    table(("joints", "count", "share"), [(kind, f"{analysis.errors[kind]:,}", f"{analysis.errors[kind] / joints:.1%}")
                                         for kind in KINDS])  # fmt: skip
    say("")
    table(("results and people", "count"), [(kind, f"{count:,}") for kind, count in analysis.errors.items()
                                            if kind not in KINDS])  # fmt: skip
    if analysis.metrics.people:
        say("")
        table(("mended", "AP gained alone", "AP gained in this order"),
              [(gain.name, f"{gain.alone:+.3f}", f"{gain.after:+.3f}") for gain in analysis.gains])
    say("")
    for line in analysis.advice():
        say(line)
    for line in analysis.metrics.notes():
        note(line)
