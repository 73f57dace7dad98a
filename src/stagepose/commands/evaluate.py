"""``stagepose eval`` and ``stagepose compare``: how good one model is, and whether another is really better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from stagepose import coco
from stagepose.coco.results import reordered
from stagepose.commands.arguments import AT_LEAST_ONE, UNSAID, JsonFile, OptionalFile, OptionalName
from stagepose.commands.console import note, say, table, wrong_usage
from stagepose.commands.contestants import Side, are_paired, by_seed, judge_sides, titles
from stagepose.commands.judging import (
    ModelOptions,
    People,
    PeopleOptions,
    find_people,
)
from stagepose.errors import MissingExtraError
from stagepose.evaluation import (
    BoxMetrics,
    Comparison,
    Judgement,
    PckComparison,
    SeedComparison,
    compare,
    compare_pck,
    compare_runs,
    evaluate_boxes,
    intervals,
    judge_keypoints,
)
from stagepose.evaluation.bootstrap import FEW_PICTURES, RESAMPLES, Interval, check_draws, too_few
from stagepose.evaluation.breakdown import all_parts
from stagepose.evaluation.keypoints import NUMBERS, metrics_of
from stagepose.evaluation.pck import HEADINGS, pck_of
from stagepose.files import keep_inputs, require_place, write_json
from stagepose.lines import printable

DEFAULT_PEOPLE, DEFAULT_MODEL = PeopleOptions(), ModelOptions()
SHOWN_SHARE = 0.1  # of the box's longer side: a keypoint's PCK that is printed of two results; --json has the others
WHO = "RESULTS.json|RUN|MODEL ..."
SideA = Positional[Annotated[list[str], arg(metavar=WHO, help_behavior_hint=AT_LEAST_ONE)]]
SideB = Annotated[tuple[str, ...], arg(metavar=WHO, help_behavior_hint=UNSAID)]


def evaluate(
    file: JsonFile,
    *,
    people: OmitArgPrefixes[PeopleOptions] = DEFAULT_PEOPLE,
    pck: bool = False,
    bootstrap: int = RESAMPLES,
    seed: int = 0,
    out: OptionalFile = None,
    json: OptionalFile = None,
) -> None:
    """Judge a model, or existing results, on a COCO file: COCO's ten keypoint numbers, and AP of parts.

    The intervals are 95 % bootstrap intervals over the pictures. AP by keypoint is COCO's, as if that keypoint were the
    only one; in AP by size, by box overlap and by labelled joints, people of other groups are ignored, and a result
    that finds nobody counts by the group's share of the people. With --boxes detector the person boxes are judged too.

    Args:
        file: COCO annotation file with the ground truth.
        people: What is judged.
        pck: Also print how far off each keypoint is: the median error in pixels and in percent of the longer side of
            the person's box, and PCK, the share of joints within .05, .1 and .2 of that side.
        bootstrap: Bootstrap resamples behind the confidence intervals; at least 100, or 0 for none.
        seed: Random seed of the bootstrap.
        out: Write the results here as COCO keypoint results, as its server takes them, in FILE.json's keypoint order.
        json: Write all numbers here.
    """
    if people.results is not None and out is not None:
        wrong_usage("--results judges what is there already, without a model; leave out --out")
    if bootstrap:
        check_draws(bootstrap, seed)
    for wanted in filter(None, (out, json)):
        require_place(wanted)
        keep_inputs(wanted, filter(None, (file, people.results)))
    if out is not None and json is not None and out.absolute() == json.absolute():
        wrong_usage(f"--out and --json are both {printable(out)}; name two files")
    found = find_people(file, people)
    try:
        if out is not None:
            _write(out, found, file)
    finally:  # a full disk must not cost the numbers
        _report(found, pck, bootstrap, seed, json)


def _write(out: Path, found: People, file: Path) -> None:
    """The results, as the server of the truth in ``file`` takes them."""
    names, order = found.dataset.skeleton.names, found.dataset.order_of_results
    coco.write_results(out, reordered(found.results, names, order))
    note(f"results written to {printable(out)}" + ("" if order == names else ", in the keypoint order of "
                                                        f"{printable(file)}"))


def _report(found: People, with_pck: bool, resamples: int, seed: int, json: Path | None) -> None:
    judged = judge_keypoints(found.dataset, found.results)
    keypoints = metrics_of(judged)
    within = intervals(judged, resamples, seed) if resamples else [None] * len(NUMBERS)
    parts, pck = all_parts(judged), pck_of(judged)
    rows = [("keypoints", *row, _shown(one)) for row, one in zip(keypoints.rows(), within, strict=True)]
    notes = keypoints.notes()
    if resamples and keypoints.images < FEW_PICTURES:
        notes.append(too_few(keypoints.images))
    boxes = _boxes_of(found, notes)
    if boxes is not None:
        rows += [("person boxes", *row, "") for row in boxes.rows()]
        notes += boxes.notes()
    table(("of", "measure", "value", "95 % interval"), rows, words=2)
    say("")
    table(("by", "part", "people", "AP", "AR"), [(what, *one.row()) for what, its in parts.items() for one in its],
          words=2)
    if with_pck:
        say("")
        table(HEADINGS, pck.rows())
        notes += pck.notes()
    for line in notes:
        note(line)
    if json is not None:
        spans = {name: [one.low, one.high] for name, one in zip(NUMBERS, within, strict=True) if one}
        by = {what: [asdict(one) for one in its] for what, its in parts.items()}
        of_boxes = {"person boxes": asdict(boxes)} if boxes else {}
        write_json(json, {"keypoints": asdict(keypoints), "intervals": spans, "by": by, "pck": asdict(pck), **of_boxes})


def _boxes_of(found: People, notes: list[str]) -> BoxMetrics | None:
    """How good the detector's boxes are; a note where the library for it is missing: the keypoints are judged still."""
    if found.detections is None:
        return None
    try:
        return evaluate_boxes(found.dataset, found.detections)
    except MissingExtraError as error:
        notes.append(f"person boxes not judged: {error}")
        return None


def _shown(within: Interval | None) -> str:
    return str(within) if within else ""


def compare_results(
    contestants: SideA,
    *,
    against: SideB = (),
    truth: Annotated[Path, arg(metavar="FILE.json")],
    skeleton: OptionalName = None,
    model: OmitArgPrefixes[ModelOptions] = DEFAULT_MODEL,
    pck: bool = False,
    bootstrap: int = RESAMPLES,
    seed: int = 0,
    json: OptionalFile = None,
) -> None:
    """Tell whether B is really better than A, or whether the difference may be chance.

    Both are judged on the same resamples of the pictures (a paired bootstrap), which resolves much smaller
    differences than two separate intervals. Several runs per side, A ... --against B ..., take the seeds into account.

    Args:
        contestants: A and B, or, with --against, all of A: COCO keypoint results (.json), run folders (the results of
            their best validation), or pose models (shipped names or .onnx files).
        against: All of B: runs that differ from each other only in their seeds, as those of A do.
        truth: COCO annotation file with the ground truth.
        skeleton: Keypoints of the results, in their order, and the sigmas to judge by; as for eval.
        model: How those that are models find people.
        pck: Also print PCK of both: the share of joints within .05, .1 and .2 of the longer side of the person's box,
            of all keypoints, and of each within .1.
        bootstrap: Bootstrap resamples, of the pictures and of the seeds; at least 100.
        seed: Random seed of the bootstrap.
        json: Write all numbers here.
    """
    if not against and len(contestants) != 2:
        wrong_usage(f"{len(contestants)} given, expected A and B; several a side are A ... --against B ...")
    a, b = (contestants, against) if against else ([contestants[0]], [contestants[1]])
    several = len(a) > 1 or len(b) > 1
    if several and pck:
        wrong_usage("--pck compares one with another; leave it out, or name one a side")
    check_draws(bootstrap, seed)
    if json is not None:
        require_place(json)
        keep_inputs(json, [truth, *(Path(name) for name in (*a, *b))])
    side_a, side_b = judge_sides(a, b, truth, skeleton, model)
    if several:
        _report_seeds(side_a, side_b, bootstrap, seed, json)
    else:
        _report_comparison((a[0], b[0]), (side_a[0].judged, side_b[0].judged), pck, bootstrap, seed, json)
        if any(one.seed is not None for one in (*side_a, *side_b)):
            note("one run a side: a better seed is better, too; name several of each, A ... --against B ...")


def _report_seeds(a: Side, b: Side, resamples: int, seed: int, json: Path | None) -> None:
    paired = are_paired(a, b)
    if paired:
        a, b = by_seed(a), by_seed(b)
    comparison = compare_runs([one.judged for one in a], [one.judged for one in b], paired=paired, resamples=resamples,
                              seed=seed)
    table(("measure", "A", "B", "B - A", "95 % interval", "over pictures alone"), comparison.rows())
    say("")
    say(comparison.verdict(*titles([one.name for one in a], [one.name for one in b])))
    note("runs of one seed are compared with each other" if paired else
         "every run is compared with all of the other side: the seeds are not the same")
    if comparison.images < FEW_PICTURES:
        note(too_few(comparison.images))
    if json is not None:
        _write_seeds(json, a, b, comparison)


def _write_seeds(json: Path, a: Side, b: Side, told: SeedComparison) -> None:
    each = zip(NUMBERS, told.a, told.b, told.intervals, told.pictures, strict=True)
    keypoints = {name: {"a": of_a, "b": of_b, "interval": _ends(within), "over_pictures": _ends(alone)}
                 for name, of_a, of_b, within, alone in each}
    write_json(json, {"a": [one.name for one in a], "b": [one.name for one in b], "images": told.images,
                      "paired": told.paired, "keypoints": keypoints})


def _ends(within: Interval | None) -> list[float] | None:
    return [within.low, within.high] if within else None


def _report_comparison(names: tuple[str, str], judged: Sequence[Judgement], with_pck: bool, resamples: int, seed: int,
                       json: Path | None) -> None:
    comparison = compare(judged[0], judged[1], resamples, seed)
    pck = compare_pck(judged[0], judged[1], resamples, seed) if with_pck or json else []
    headings = "measure", "A", "B", "B - A", "95 % interval"
    table(headings, comparison.rows())
    if with_pck:
        say("")
        table(("keypoint", *headings), [one.row() for one in pck if one.name == "all" or one.share == SHOWN_SHARE],
              words=2)
    say("")
    say(comparison.verdict(*titles(names[:1], names[1:])))
    if comparison.images < FEW_PICTURES:
        note(too_few(comparison.images))
    if json is not None:
        _write_comparison(json, names, comparison, pck)


def _write_comparison(json: Path, names: tuple[str, str], of_ap: Comparison, of_pck: Sequence[PckComparison]) -> None:
    def pair(a: float, b: float, within: Interval | None) -> dict[str, Any]:
        return {"a": a, "b": b, "interval": _ends(within)}

    keypoints = {name: pair(a, b, within)
                 for name, a, b, within in zip(NUMBERS, of_ap.a, of_ap.b, of_ap.intervals, strict=True)}
    pck: dict[str, list[dict[str, Any]]] = {}
    for one in of_pck:
        pck.setdefault(one.name, []).append({"share": one.share, **pair(one.a, one.b, one.interval)})
    write_json(json, {"a": names[0], "b": names[1], "images": of_ap.images, "b_ahead": of_ap.better,
                      "keypoints": keypoints, "pck": pck})
