"""Charts as inline SVG: text in, text out. Colours are Okabe and Ito's, told apart by colour-blind readers too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = {
    "good": "#009E73", "jitter": "#56B4E9", "inversion": "#E69F00", "swap": "#CC79A7", "miss": "#D55E00",
    "score": "#0072B2", "second": "#8a8f98", "background": "#5b6470", "missed": "#2f353d",
}  # fmt: skip
WIDTH, LABEL = 720, 150  # of a chart, and of its column of names
ROW, GAP = 22, 8


def figure(height: float, body: Sequence[str], title: str, width: float = WIDTH) -> str:
    """A chart that is as wide as its place."""
    return (f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
            f'<title>{escape(title)}</title>{"".join(body)}</svg>')


def rectangle(x: float, y: float, width: float, height: float, colour: str, tip: str = "") -> str:
    """With a tip that shows under the mouse."""
    inside = f"<title>{escape(tip)}</title>" if tip else ""
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" rx="1.5" fill="{colour}">'
            f"{inside}</rect>")


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "") -> str:
    """``kind`` is a class of the page's style."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def stacked_bars(rows: Sequence[tuple[str, Mapping[str, int]]], title: str) -> str:
    """A bar a row, each as long as the others, cut into shares by kind."""
    body, length = [], WIDTH - LABEL - 60
    for number, (name, counts) in enumerate(rows):
        y, total = number * (ROW + GAP), sum(counts.values())
        body.append(text(LABEL - 10, y + 16, name, anchor="end"))
        x = float(LABEL)
        for kind, count in counts.items():
            share = count / total if total else 0
            tip = f"{name}: {kind} {count:,} ({share:.1%})"
            body.append(rectangle(x, y, share * length, ROW, COLOURS[kind], tip))
            if share * length > 38:
                body.append(text(x + share * length / 2, y + 15.5, f"{share:.0%}", anchor="middle", kind="on"))
            x += share * length
        body.append(text(WIDTH, y + 16, f"{total:,}", anchor="end", kind="faint"))
    return figure(len(rows) * (ROW + GAP), body, title)


def bars(rows: Sequence[tuple[str, float, str]], title: str, colour: str, width: float = WIDTH) -> str:
    """Values in [0, 1], a bar a row, with a note at the end of each."""
    label, body = 130, []
    length = width - label - 130
    for number, (name, value, note) in enumerate(rows):
        y = number * (ROW + GAP)
        body += [text(label - 10, y + 16, name, anchor="end"),
                 rectangle(label, y, length, ROW, "var(--track)"),
                 rectangle(label, y, max(value, 0) * length, ROW, colour, f"{name}: {value:.3f}"),
                 text(label + length + 10, y + 16, note, kind="faint")]
    return figure(len(rows) * (ROW + GAP), body, title, width)


def waterfall(start: float, steps: Sequence[tuple[str, str, float, float]], title: str) -> str:
    """From ``start`` upwards: (colour's name, label, gained here, gained alone) of each step."""
    label, length = 190, WIDTH - 190 - 130
    body = [text(label - 10, 16, "as it is", anchor="end"), rectangle(label, 0, start * length, ROW, COLOURS["good"]),
            text(WIDTH, 16, f"{start:.3f}", anchor="end", kind="strong")]
    level = start
    for number, (kind, name, gained, alone) in enumerate(steps, start=1):
        y = number * (ROW + GAP)
        low, high = sorted((level, level + gained))
        body += [text(label - 10, y + 16, name, anchor="end"), rectangle(label, y, length, ROW, "var(--track)"),
                 rectangle(label + low * length, y, max((high - low) * length, 1.5), ROW, COLOURS[kind],
                           f"{name}: {gained:+.4f} here, {alone:+.4f} alone"),
                 text(WIDTH, y + 16, f"{gained:+.3f}  → {level + gained:.3f}", anchor="end")]
        level += gained
    return figure((len(steps) + 1) * (ROW + GAP), body, title)


def histogram(counts: Sequence[int], title: str) -> str:
    """Equal bins of [0, 1]."""
    height, top = 170, 16
    width, most = WIDTH / len(counts), max(max(counts), 1)
    body = []
    for number, count in enumerate(counts):
        tall = count / most * (height - top)
        low, high = number / len(counts), (number + 1) / len(counts)
        body.append(rectangle(number * width + 2, height - tall, width - 4, tall, COLOURS["good"],
                              f"OKS {low:.2f} to {high:.2f}: {count:,} people"))
        if count:
            body.append(text((number + 0.5) * width, height - tall - 4, f"{count:,}", anchor="middle", kind="small"))
    body += [text(min(max(mark * WIDTH, 8), WIDTH - 8), height + 16, f"{mark:g}", anchor="middle", kind="faint")
             for mark in (0, 0.25, 0.5, 0.75, 1)]
    return figure(height + 22, body, title)
