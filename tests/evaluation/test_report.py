"""The report: one file that needs no other, holding what the JSON holds, whatever the set is like."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tiny import tiny_coco, tiny_dict

from evaluation.planted import found, plant, truth
from evaluation.published import Json, as_dataset, coco_json, perfect
from stagepose.coco import read_dataset
from stagepose.evaluation.analysis import Analysis, analyze
from stagepose.evaluation.report import write_report
from stagepose.skeleton import COCO_17


def report(analysis: Analysis, folder: Path, images: Path | None = None) -> tuple[str, int]:
    blank = write_report(folder / "report.html", analysis, COCO_17, images)
    return (folder / "report.html").read_text(encoding="utf-8"), blank


def test_it_needs_nothing_else(tmp_path: Path) -> None:
    dataset = read_dataset(tiny_coco(tmp_path))
    page, blank = report(analyze(dataset, perfect(tiny_dict()), resamples=0), tmp_path, tmp_path / "images")
    assert blank == 0 and page.count("data:image/jpeg;base64,") == 8
    assert not re.search(r"https?://|@import|\bsrc=|\burl\(", page)
    assert set(re.findall(r'href="([^"]{5})', page)) == {"data:"}


def test_worst_people_come_first_with_their_errors(tmp_path: Path) -> None:
    data = truth(images=2)
    results = [r for n, r in enumerate(plant(found(data), "swap")) if n != 3]
    ghost = {**results[0], "keypoints": [950.0, 440.0, 1.0] * 17, "score": 0.99}
    analysis = analyze(as_dataset(data, tmp_path), [*results, ghost], resamples=0, worst=3, of="<b>& co")
    assert [(case.annotation, case.found is None) for case in analysis.worst][:2] == [(21, True), (10, False)]
    assert len(analysis.worst) == 3 and analysis.worst[1].kinds.count("swap") == 1
    assert [case.score for case in analysis.false_alarms] == [0.99]
    page, blank = report(analysis, tmp_path)
    assert blank == 4 and page.count('<figure class="case"') == 4
    assert "&lt;b&gt;&amp; co" in page and "<b>& co" not in page
    assert "How far joints are off" in page and "PCK .05" in page and "their 17 labelled joints are wrong" in page
    assert "1 swap" in page and "<b>missed</b>" in page and "<b>nobody here</b>" in page


def test_a_missed_person_is_shown_with_the_nearest_find_of_nobody(tmp_path: Path) -> None:
    data = truth(people=1)
    far = {**found(data)[0], "keypoints": [950.0, 440.0, 1.0] * 17}
    (case,) = analyze(as_dataset(data, tmp_path), [far], resamples=0).worst
    assert case.oks == 0 and case.score == 0.9 and case.found == [[950.0, 440.0]] * 17


def test_the_json_holds_all_of_it_and_is_json(tmp_path: Path) -> None:
    data = truth()
    analysis = analyze(as_dataset(data, tmp_path), plant(found(data), "inversion"), resamples=100)
    again = json.loads(json.dumps(analysis.to_json(), allow_nan=False))
    assert again["metrics"]["people"] == 2 and again["errors"]["inversion"] == 1
    assert [gain["name"] for gain in again["gains"]][:2] == ["miss", "swap"]
    assert again["worst"][0]["kinds"][COCO_17.index("left_wrist")] == "inversion"
    assert len(again["intervals"]) == 10 and set(again["intervals"][0]) == {"low", "high"}
    assert sum(again["oks_histogram"]) == 2
    assert len(again["pck"]["keypoints"]) == 17 and again["pck"]["all"]["labelled"] == 34


def test_advice_names_the_greatest_loss(tmp_path: Path) -> None:
    data = truth()
    wrong = analyze(as_dataset(data, tmp_path), plant(found(data), "miss"), resamples=0)
    right = analyze(as_dataset(data, tmp_path), found(data), resamples=0)
    assert right.advice() == ["Nothing is wrong with these results."]
    assert wrong.metrics.ap < 1 and wrong.advice()[0].startswith("Most is lost by joints far from every place")
    assert re.fullmatch(r"Of the keypoints left wrist \(\+0\.\d{3}\) costs most\.", wrong.advice()[1])
    assert "+0.000" not in " ".join(wrong.advice())


@pytest.mark.parametrize("data", [coco_json([], images=0), coco_json([], images=1),
                                  coco_json([{**truth()["annotations"][0], "iscrowd": 1}], images=1)],
                         ids=["no images", "nobody", "only a crowd"])
@pytest.mark.parametrize("some", [False, True], ids=["no results", "a result"])
def test_sets_without_anybody_make_a_page_too(tmp_path: Path, data: Json, some: bool) -> None:
    results = [{"image_id": 1, "category_id": 1, "keypoints": [500.0, 9.0, 1.0] * 17, "score": 0.5}]
    analysis = analyze(as_dataset(data, tmp_path), results if some and data["images"] else [], resamples=100)
    page, _ = report(analysis, tmp_path)
    assert "There is no ground truth to evaluate against." in page and "no ground truth" in page
    json.dumps(analysis.to_json(), allow_nan=False)
