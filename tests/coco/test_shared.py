"""Against real labelled people, where they lie beside the repository (see docs); skipped where they don't."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stagepose import cli
from stagepose.coco import (
    Statistics,
    check_dataset,
    dataset_from_arrays,
    images_folder,
    read_box_results,
    read_dataset,
    statistics,
    statistics_rows,
    summarise,
    write_clean,
)

SHARED = Path(__file__).parents[2] / "../shared"
DATA = SHARED / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real data beside the repository (../shared/data)")


@needs_data
@pytest.mark.parametrize(
    ("name", "images", "with_keypoints", "people"),
    [("coco_train", 2988, 2698, 6987), ("coco_val", 238, 212, 597), ("lspet_val", 495, 495, 495)],
)
def test_counts_agree_with_the_readme(name: str, images: int, with_keypoints: int, people: int) -> None:
    counted = statistics(read_dataset(DATA / name / "person_keypoints.json"))
    assert (counted.images, counted.images_with_keypoints, counted.people) == (images, with_keypoints, people)


@needs_data
def test_all_of_coco_train_agrees_with_table_1_of_the_report() -> None:
    labels = np.load(DATA / "coco2017_train_labels.npz")
    size = np.array([640, 480])
    centre, box_size = (labels["box_cxcywh"][:, i : i + 2] / 65535 * size for i in (0, 2))
    keypoints = np.dstack([labels["keypoints_xy"] / 65535 * size, labels["visibility"]])
    boxes = np.hstack([centre - box_size / 2, centre + box_size / 2])
    counted = statistics(dataset_from_arrays(labels["image_id"], boxes, keypoints))
    assert counted == Statistics(images=56599, images_with_keypoints=56599, people=149813, keypoints=1642283)
    assert statistics_rows([("train-val", counted)]) == [("train-val", "56,599", "56,599", "149,813", "1,642,283")]


@needs_data
def test_public_validation_is_sound_down_to_its_pictures() -> None:
    path, train = (DATA / name / "person_keypoints.json" for name in ("coco_val", "coco_train"))
    assert check_dataset(path, images_dir=images_folder(path), other=train) == []


@needs_data
def test_real_formats() -> None:
    formats = DATA / "formats"
    assert statistics(coco := read_dataset(formats / "coco" / "test_coco.json")).people == 12
    assert coco.skeleton.name == "coco17"
    assert read_dataset(formats / "ochuman" / "test_ochuman.json").skeleton.name == "coco17"
    assert read_dataset(formats / "aic" / "test_aic.json").skeleton.name == "lsp14"  # 'Right Shoulder' and so on
    crowdpose = formats / "crowdpose" / "test_crowdpose.json"
    assert read_dataset(crowdpose).skeleton.name == "crowdpose14"
    kinds = {kind.kind: kind.count for kind in summarise(check_dataset(crowdpose))}
    assert kinds == {"num-keypoints": 4, "limbs": 1, "area-missing": 5}
    humanart = formats / "humanart" / "test_humanart.json"  # of the 21 in its category they have COCO's 17
    assert [str(one) for one in check_dataset(humanart) if one.severity == "error"] == [
        "category 'person': lists 21 keypoints, but all 4 people have 51 numbers, 3 for each of 17"]
    boxes = read_box_results(formats / "coco" / "test_coco_det_AP_H_56.json")
    assert sum(len(found) for found in boxes.values()) == 118


@needs_data
def test_perfect_results_in_a_real_files_order_are_perfect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, results, numbers = (str(tmp_path / name) for name in ("aic.json", "results.json", "numbers.json"))
    write_clean(DATA / "formats" / "aic" / "test_aic.json", file, estimate_areas=True)  # lsp14 in another order
    people = json.loads(Path(file).read_text())["annotations"]
    perfect = [{key: row[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 1.0} for row in people]
    Path(results).write_text(json.dumps(perfect))
    assert cli.main(["eval", file, "--results", results, "--bootstrap", "0", "--json", numbers]) == 0
    assert json.loads(Path(numbers).read_text())["keypoints"]["ap"] == pytest.approx(1)
    assert "in the order of the truth's file, right_shoulder, right_elbow, " in capsys.readouterr().err
