"""``stagepose eval`` and ``stagepose compare``: how good one model is, and whether another is really better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from stagepose import coco
from stagepose.coco import resolve_skeleton
from stagepose.coco.results import reordered
from stagepose.commands.arguments import JsonFile, OptionalFile, OptionalName
from stagepose.commands.console import note, say, table, wrong_usage
from stagepose.commands.judging import (
    ModelOptions,
    People,
    PeopleOptions,
    find_people,
    predict,
    read_results,
    read_truth,
)
from stagepose.errors import ConfigError, MissingExtraError
from stagepose.evaluation import (
    BoxMetrics,
    Comparison,
    Judgement,
    PckComparison,
    compare,
    compare_pck,
    evaluate_boxes,
    intervals,
    judge_keypoints,
)
from stagepose.evaluation.bootstrap import FEW_PICTURES, RESAMPLES, Interval, check_draws, too_few
from stagepose.evaluation.breakdown import all_parts
from stagepose.evaluation.keypoints import NUMBERS, metrics_of
from stagepose.evaluation.pck import HEADINGS, pck_of
from stagepose.files import keep_inputs, require_place, write_json
from stagepose.images import printable

DEFAULT_PEOPLE, DEFAULT_MODEL = PeopleOptions(), ModelOptions()
SHOWN_SHARE = 0.1  # of the box's longer side: a keypoint's PCK that is printed of two results; --json has the others
Contestant = Annotated[str, arg(metavar="RESULTS.json|MODEL")]


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
    """Judge a model, or ready results, on a COCO file: COCO's ten keypoint numbers, and AP of parts.

    The intervals hold 95 % of what the numbers would be on other draws of the pictures. AP by keypoint is COCO's as if
    it were the only one; in AP by size, by overlap of the boxes and by labelled joints the people of other groups are
    ignored, and a result that finds nobody counts by the group's share of the people. With --boxes detector the person
    boxes are judged as well.

    Args:
        file: COCO annotation file with the truth.
        people: Whom to judge.
        pck: Print how far each keypoint is off as well: the median error in pixels and in percent of the longer side of
            the person's box, and PCK, the share of joints within .05, .1 and .2 of that side.
        bootstrap: Draws of the pictures behind the intervals; 100 or more, 0 for none.
        seed: Of the draws.
        out: Write the results here, as COCO keypoint results, which its server takes, in FILE.json's keypoint order.
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
        wrong_usage(f"--out and --json are both {printable(str(out))}; name two files")
    found = find_people(file, people)
    if out is not None:
        names, order = found.dataset.skeleton.names, found.dataset.order_of_results
        coco.write_results(out, reordered(found.results, names, order))
        note(f"results written to {printable(str(out))}" + ("" if order == names else ", in the keypoint order of "
                                                            f"{printable(str(file))}"))
    _report(found, pck, bootstrap, seed, json)


def _report(found: People, with_pck: bool, resamples: int, seed: int, json: Path | None) -> None:
    judged = judge_keypoints(found.dataset, found.results)
    keypoints = metrics_of(judged, with_bbox=sum(bool(result.get("bbox")) for result in found.results))
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
    a: Positional[Contestant],
    b: Positional[Contestant],
    *,
    truth: Annotated[Path, arg(metavar="FILE.json")],
    skeleton: OptionalName = None,
    model: OmitArgPrefixes[ModelOptions] = DEFAULT_MODEL,
    pck: bool = False,
    bootstrap: int = RESAMPLES,
    seed: int = 0,
    json: OptionalFile = None,
) -> None:
    """Say whether B is really better than A, or whether the difference is within the luck of the pictures.

    Both are judged on the same draws of the pictures (a paired bootstrap), which tells much smaller differences than
    two intervals side by side.

    Args:
        a: COCO keypoint results (.json), or a pose model: a shipped name or an .onnx file.
        b: The other.
        truth: COCO annotation file.
        skeleton: Keypoints of the results in their order, and the sigmas to judge them by; as for eval.
        model: For those that are models.
        pck: Print PCK of both as well: the share of joints within .05, .1 and .2 of the longer side of the person's
            box, of all keypoints, and of each within .1.
        bootstrap: Draws of the pictures.
        seed: Of the draws.
        json: Write all numbers here.
    """
    names = [a, b]
    models = [name for name in names if not name.endswith(".json")]
    if not models and (idle := model.changed()):
        wrong_usage(f"two files of results need no model; leave out {', '.join(idle)}")
    if models and skeleton is not None:
        wrong_usage("--skeleton goes with files of results; a model brings its own skeleton")
    check_draws(bootstrap, seed)
    if json is not None:
        require_place(json)
        keep_inputs(json, [truth, *(Path(name) for name in names)])
    predictors = {name: model.predictor((name,)) for name in models}
    skeletons = {predictor.skeleton.names: predictor.skeleton for predictor in predictors.values()}
    if len(skeletons) > 1:
        raise ConfigError(f"{a} and {b} find different keypoints, whose AP cannot be compared")
    wanted = next(iter(skeletons.values()), resolve_skeleton(skeleton) if skeleton else None)
    dataset = read_truth(truth, wanted)
    judged = []
    for name in names:
        results = (predict(predictors[name], dataset, truth, model).results if name in predictors
                   else read_results(name, dataset, skeleton))
        judged.append(judge_keypoints(dataset, results))
    _report_comparison((a, b), judged, pck, bootstrap, seed, json)


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
    say(comparison.verdict(*_short(*names)))
    if comparison.images < FEW_PICTURES:
        note(too_few(comparison.images))
    if json is not None:
        _write_comparison(json, names, comparison, pck)


def _write_comparison(json: Path, names: tuple[str, str], of_ap: Comparison, of_pck: Sequence[PckComparison]) -> None:
    def pair(a: float, b: float, within: Interval | None) -> dict[str, Any]:
        return {"a": a, "b": b, "interval": [within.low, within.high] if within else None}

    keypoints = {name: pair(a, b, within)
                 for name, a, b, within in zip(NUMBERS, of_ap.a, of_ap.b, of_ap.intervals, strict=True)}
    pck: dict[str, list[dict[str, Any]]] = {}
    for one in of_pck:
        pck.setdefault(one.name, []).append({"share": one.share, **pair(one.a, one.b, one.interval)})
    write_json(json, {"a": names[0], "b": names[1], "images": of_ap.images, "b_ahead": of_ap.better,
                      "keypoints": keypoints, "pck": pck})


def _short(a: str, b: str) -> tuple[str, str]:
    """Names without folders, where that tells the two apart."""
    short: tuple[str, Any] = Path(a).name, Path(b).name
    return (printable(short[0]), printable(short[1])) if short[0] != short[1] else (printable(a), printable(b))
