"""The page: numbers, charts, tables and the gallery put together; style and script are the files beside this one."""

from __future__ import annotations

from html import escape
from pathlib import Path

from stagepose import __version__
from stagepose.evaluation.analysis import MEANING, Analysis
from stagepose.evaluation.breakdown import Part
from stagepose.evaluation.keypoints import LABELS
from stagepose.evaluation.pck import HEADINGS
from stagepose.evaluation.precision import NO_TRUTH
from stagepose.evaluation.report import svg
from stagepose.evaluation.report.gallery import cards
from stagepose.evaluation.taxonomy import KINDS
from stagepose.files import write_bytes
from stagepose.skeleton import Skeleton

HERE = Path(__file__).parent
STEPS = {
    "miss": "miss", "swap": "swap", "inversion": "inversion", "jitter": "jitter", "score": "ranking",
    "second": "duplicates", "background": "false positives", "missed": "missed people",
}  # fmt: skip
SORTS = {"oks up": "worst first", "oks down": "best first", "score down": "highest score", "area down": "largest",
         "area up": "smallest", "overlap down": "most crowded", "labelled down": "most labels",
         "miss down": "most misses", "inversion down": "most inversions", "swap down": "most swaps",
         "jitter down": "most jitter"}  # fmt: skip
LAYERS = {"truth": "labelled (white, dashed)", "found": "found (dark)", "errors": "line to the labelled place"}
DEFINITIONS = {
    "Good, jitter, inversion, swap, miss":
        "A result belongs to a person if COCO matches the two at an OKS of .1. Each labelled joint is compared with "
        "four places: its own, its mirrored joint's, and the same two on another person, by "
        "KS = exp(−d² / (2 s² k²)), with the scale s of the person whose place it is. The largest decides: own above "
        ".85 good, from .5 jitter; mirrored from .5 inversion; of another person from .5 swap; all below .5 miss "
        "(Ronchi and Perona, ICCV 2017).",
    "Fixing errors":
        "A joint is put where it is labelled; the result that fits a person best gets its OKS as score, all others 0; "
        "duplicates and false positives are left out; each missed person gets a perfect result with the highest score. "
        "The chart fixes one kind after the other, from the top; the table has each alone too. What is then missing "
        "from 1 are good joints that are not quite right.",
    "AP by keypoint":
        "COCO's AP as if this keypoint were the only one: people in whom it is not labelled are ignored, and results "
        "are ranked by the people's scores.",
    "AP of a group":
        "People of the other groups are ignored; a false positive is weighted by the group's share of the people. "
        "Overlap is the largest IoU of a person's box with another's.",
    "PCK, median %":
        "PCK .05 is the share of the labelled joints that are found within .05 of the longer side of the person's "
        "labelled box (Yang and Ramanan, PAMI 2013); the median error in percent is of that side too. Missed are the "
        "labelled joints of people without a result.",
    "95 % interval": "Percentiles of the number over bootstrap samples of the pictures.",
}  # fmt: skip


def write_report(path: Path, analysis: Analysis, skeleton: Skeleton, images_dir: Path | None) -> int:
    """Write the page; returns how many people of the gallery are without their picture."""
    worst, blank = cards(analysis.worst, skeleton, images_dir)
    alarms, blank_alarms = cards(analysis.false_alarms, skeleton, images_dir)
    body = [_head(analysis), _tiles(analysis), _advice(analysis)]
    if analysis.metrics.people:
        body += [_errors(analysis), _mending(analysis), _keypoints(analysis), _pck(analysis),
                 _parts(analysis)]
    body += [_gallery(worst), _alarms(alarms), _definitions()]
    title = escape(f"Pose analysis{': ' if analysis.of else ''}{analysis.of}")
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    page = (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{style}</style></head><body><main>{''.join(body)}</main>"
            f"<script>{script}</script></body></html>\n")  # fmt: skip
    write_bytes(path, page.encode("utf-8", "backslashreplace"))  # of a file whose name is no text at all
    return blank + blank_alarms


def _head(analysis: Analysis) -> str:
    what = escape(analysis.of or "Keypoint results")
    return f"<h1>{what}</h1><p>{escape('. '.join(analysis.metrics.notes()))}. StagePose {__version__}.</p>"


def _tiles(analysis: Analysis) -> str:
    tiles = []
    for label, value, within in zip(LABELS, analysis.metrics.numbers(), analysis.intervals, strict=True):
        shown, under = ("–", "no ground truth") if value == NO_TRUTH else (f"{value:.3f}", str(within or ""))
        tiles.append(f'<div class="tile"><span>{label}</span><b>{shown}</b><small>{under}</small></div>')
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _advice(analysis: Analysis) -> str:
    return f'<section class="advice"><p>{escape(" ".join(analysis.advice()))}</p></section>'


def _errors(analysis: Analysis) -> str:
    overall = {kind: analysis.errors[kind] for kind in KINDS}
    other = [f"{analysis.errors[name]:,} {what}" for name, what in (
        ("missed", "people missed"), ("background", "false positives"), ("second", "duplicates"),
        ("misranked", "people with a better result behind a worse one"))]  # fmt: skip
    return (f"<section><h2>What goes wrong</h2><p>Labelled joints of people who were found, by kind. Besides: "
            f"{', '.join(other)}.</p>{_legend(KINDS)}"
            + svg.stacked_bars([("all joints", overall)], "Joints by kind of error")
            + "<h2>How well people are found</h2><p>OKS of each person with its result.</p>"
            + svg.histogram(analysis.oks_histogram, "People by OKS") + "</section>")


def _legend(kinds: tuple[str, ...]) -> str:
    return '<div class="legend">' + "".join(
        f'<span><i style="background:{svg.COLOURS[kind]}"></i>{kind}</span>' for kind in kinds) + "</div>"


def _mending(analysis: Analysis) -> str:
    steps = [(gain.name, STEPS[gain.name], gain.after, gain.alone) for gain in analysis.gains]
    rows = [[STEPS[gain.name], MEANING[gain.name], f"{gain.alone:+.4f}", f"{gain.after:+.4f}"]
            for gain in analysis.gains]
    headings = ["error", "what it is", "AP gained alone", "AP gained in this order"]
    return ("<section><h2>What fixing errors would give</h2><p>AP if errors are fixed one after the other.</p>"
            + svg.waterfall(analysis.metrics.ap, steps, "AP gained by fixing errors")
            + _table(headings, rows, words=2) + "</section>")


def _keypoints(analysis: Analysis) -> str:
    names = [name.replace("_", " ") for name in analysis.keypoints]
    rows = []
    for name, counts, part, gain in zip(names, analysis.errors_by_keypoint, analysis.parts["keypoint"],
                                        analysis.gains_by_keypoint, strict=True):
        total = max(1, sum(counts.values()))
        ap = ["", ""] if part.ap == NO_TRUTH else [f"{part.ap:.3f}", f"{part.ar:.3f}"]
        shares = [f"{100 * counts[kind] / total:.1f}" for kind in KINDS]
        rows.append([name, f"{part.people}", *ap, *shares, f"{gain:+.4f}"])
    headings = ["keypoint", "labelled", "AP", "AR", *(f"{kind} %" for kind in KINDS), "AP gained if fixed"]
    return (f"<section><h2>Keypoint by keypoint</h2>{_legend(KINDS)}"
            + svg.stacked_bars(list(zip(names, analysis.errors_by_keypoint, strict=True)), "Kinds by keypoint")
            + f"{_table(headings, rows)}</section>")


def _pck(analysis: Analysis) -> str:
    rows = [[name.replace("_", " "), *cells] for name, *cells in analysis.pck.rows()]
    return (f"<section><h2>How far joints are off</h2><p>{escape('. '.join(analysis.pck.notes()))}.</p>"
            f"{_table(list(HEADINGS), rows)}</section>")


def _parts(analysis: Analysis) -> str:
    titles = {"size": "By size (root of the area)", "overlap": "By overlap with another person",
              "labelled": "By labelled joints"}
    blocks = [f"<div><h3>{title}</h3>{_part_chart(title, analysis.parts[name])}</div>"
              for name, title in titles.items()]
    return f'<section><h2>AP of groups</h2><div class="three">{"".join(blocks)}</div></section>'


def _part_chart(title: str, parts: list[Part]) -> str:
    rows = [(part.name, part.ap, f"{part.ap:.3f} of {part.people:,}" if part.people else "nobody") for part in parts]
    return svg.bars(rows, title, svg.COLOURS["score"], width=420)


def _gallery(worst: str) -> str:
    if not worst:
        return ""
    sorts = "".join(f'<option value="{value}">{name}</option>' for value, name in SORTS.items())
    only = "".join(f'<option value="{kind}">with {kind}</option>' for kind in KINDS[1:])
    layers = "".join(f'<label><input type="checkbox" data-layer="{name}" checked> {what}</label>'
                     for name, what in LAYERS.items())
    controls = (f'<label>sort <select id="sort">{sorts}</select></label>'
                f'<label>show <select id="only"><option value="">all</option>{only}'
                f'<option value="missed">missed</option></select></label>{layers}')
    return ("<section><h2>The worst-found people</h2><p>Dots are what was found, by kind of error; click a card "
            f'to enlarge it.</p>{_legend(KINDS)}<div class="controls">{controls}</div>'
            f'<div class="cards" id="cards">{worst}</div></section>')


def _alarms(alarms: str) -> str:
    if not alarms:
        return ""
    return ("<section><h2>False positives</h2><p>The highest scores first. If somebody is there, the label "
            f'is missing.</p><div class="cards">{alarms}</div></section>')


def _definitions() -> str:
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>" for name, words in DEFINITIONS.items())
    return f"<section><details><summary>What the words mean</summary><dl>{listed}</dl></details></section>"


def _table(headings: list[str], rows: list[list[str]], words: int = 1) -> str:
    """The first ``words`` columns to the left, the others, numbers, to the right."""
    def line(cells: list[str], tag: str) -> str:
        kinds = [' class="words"' if place < words else "" for place in range(len(cells))]
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (f'<div class="scroll"><table><thead><tr>{line(headings, "th")}</tr></thead><tbody>{body}</tbody></table>'
            "</div>")
