"""Boxes without a person: read, cut out, and learnt from as pictures in which every joint is nowhere."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_coco

from stagepose.cli import main
from stagepose.coco import read_dataset, read_negatives
from stagepose.errors import DatasetError
from stagepose.geometry import Affine, crop_affine
from stagepose.heatmaps import UdpDark
from stagepose.images import read_image
from stagepose.skeleton import COCO_17
from stagepose.training.augment import NO_AUGMENTATION
from stagepose.training.crops import CropSpec, open_or_pack, open_store
from stagepose.training.cutting import canvas_box
from stagepose.training.networks.zoo import build
from stagepose.training.people import PeopleSets, PoseData
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.teacher import Teacher

CODEC = UdpDark(input_size=(64, 64))
CONFIG = PoseConfig(network="u-300m", codec=CODEC, augment=NO_AUGMENTATION, absent=0.2)
SPEC = CropSpec(input_size=CODEC.input_size)
BOXES = [[0, 0, 40, 50], [120, 20, 60, 60], [10, 90, 50, 50]]


def negatives_file(folder, boxes=BOXES, category=2):
    """Beside two pictures of people, boxes of another category in the first; a crowd of it in the second."""
    path = tiny_coco(folder, images=2, people=1)
    data = json.loads(path.read_text())
    data["categories"].append({"id": 2, "name": "no person"})
    data["annotations"] += [{"id": 50 + n, "image_id": 1, "category_id": category, "bbox": box, "iscrowd": 0}
                            for n, box in enumerate(boxes)]
    data["annotations"].append({"id": 70, "image_id": 2, "category_id": 2, "bbox": [0, 0, 9, 9], "iscrowd": 1})
    file = folder / "negatives.json"
    file.write_text(json.dumps(data))
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return negatives_file(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def stores(file):
    people = open_or_pack(file, file.parent / "images", file.parent / "crops", spec=SPEC, skeleton=COCO_17)
    negatives = open_or_pack(file, file.parent / "images", file.parent / "crops", spec=SPEC, skeleton=COCO_17,
                             negative=True)
    return people, negatives


def test_negatives_are_the_boxes_of_all_but_people(file, tmp_path):
    negatives = read_negatives(file, COCO_17)
    assert negatives.ids.tolist() == [50, 51, 52] and negatives.image_ids.tolist() == [1, 1, 1]
    assert negatives.boxes_xyxy.tolist() == [[x, y, x + w, y + h] for x, y, w, h in BOXES]
    with pytest.raises(DatasetError, match=r"has no box of anything but people; .* 'stagepose mine-negatives'"):
        read_negatives(negatives_file(tmp_path, category=1), COCO_17)


def test_one_file_gives_a_store_of_its_people_and_one_of_its_negatives(file, stores):
    people, negatives = stores
    assert people.home != negatives.home and (people.negative, negatives.negative) == (False, True)
    assert len(people) == 2 + 0 and people.annotation_ids.tolist() == read_dataset(file).ids.tolist()
    assert negatives.annotation_ids.tolist() == [50, 51, 52] and sum(negatives.left_out.values()) == 0
    assert open_store(negatives.home).negative
    pixels = read_image(file.parent / "images" / negatives.image_names[0]).pixels
    x, y, w, h = BOXES[1]
    there = Affine(crop_affine(canvas_box(np.array([x, y, x + w, y + h], float), SPEC), SPEC.canvas).matrix)
    assert np.array_equal(negatives.read([1])[0], there.warp(pixels, SPEC.canvas))


def test_every_joint_that_some_set_labels_is_known_to_be_absent_from_a_negative(stores):
    people, negatives = stores
    blind = replace(people, keypoints=people.keypoints * (np.arange(17) < 11)[:, None])  # a set without legs
    data = PoseData([blind, negatives], [1.0, 1.0], NO_AUGMENTATION)
    read = data.read([(0, position) for position in range(len(data))])
    shown = data.sets[read.rows.numpy()] == 1
    assert read.negative.tolist() == shown.tolist() and 0 < shown.sum() < len(shown)
    assert read.named[shown][:, :11].all() and not read.named[:, 11:].any()


def test_negatives_are_packed_ahead_by_command(file, stores, tmp_path, capsys):
    assert main(["pack", str(file), "--out", str(tmp_path / "crops"), "--input-size", "64", "64", "--negatives"]) == 0
    assert f"3 boxes without a person of {file}" in _said(capsys)
    assert (tmp_path / "crops" / stores[1].home.name / "store.json").is_file()  # what train looks for


def task_of(stores, **changes):
    torch.manual_seed(0)
    teacher = changes.pop("teacher", None)
    return PoseTask(build("u-300m", 17), replace(CONFIG, **changes), PeopleSets(stores), teacher=teacher)


def test_heatmaps_of_negatives_become_flat_and_those_of_people_do_not(stores):
    def heights(shown):
        task = task_of(shown, absent=1.0)
        optimizer = torch.optim.AdamW(task.model.parameters(), lr=2e-3)
        keys = [(0, position) for position in range(len(task.reader))]
        for _ in range(120):
            losses = task.loss(task.model, task.batch(keys))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
        both = task_of(stores)  # its way of cutting out
        with torch.no_grad():  # by the batch's own norms: 120 steps are too few for the running ones
            maps = task.model.heatmaps(task.model.logits(both.plain(np.arange(5)))[-1][0])
        peaks = maps.flatten(2).amax(-1) / maps.flatten(2).mean(-1)  # 1 for a flat heatmap
        return peaks[:2].mean().item(), peaks[2:].mean().item()

    (person, negative), (_, unknown) = heights(stores), heights(stores[:1])
    assert negative < 2 and person > 3 * negative and unknown > 3 * negative


def test_a_teacher_is_not_believed_where_there_is_nobody(stores):
    sure = torch.zeros(1, 17, 16, 16)
    sure[..., 8, 8] = 1.0
    teacher = Teacher(lambda images: sure.expand(len(images), -1, -1, -1), (64, 64), torch.arange(17), "0")
    task = task_of(stores, teacher=teacher)
    batch = task.batch([(0, position) for position in range(len(task.reader))])
    lesson = task._lesson(batch)
    assert lesson.flatten(1).amax(1).tolist() == [0.0 if nobody else 1.0 for nobody in batch.negative]
    only = task_of(stores[1:], teacher=teacher)
    losses = only.loss(only.model, only.batch([(0, 0), (0, 1), (0, 2)]))
    assert losses["heatmaps"].item() == 0  # nothing to be found; no joint is labelled in any set, so none is absent


def test_negatives_are_given_by_command(file, tmp_path, capsys):
    def train(*more, preset="u-300m"):
        return main(["train", preset, "--data", str(file.parent / "person_keypoints.json"), "--out",
                     str(tmp_path / "run"), "--negatives", f"{file}:2", "--input-size", "64", "64", "--steps", "2",
                     "--batch", "4", "--device", "cpu", "--threads", "1", *more])

    assert train() == 1 and "teach only by joints that are nowhere in the view; give --absent 0.2" in _said(capsys)
    assert train(preset="person-tiny") == 1 and "--negatives" in _said(capsys)
    assert train("--absent", "0.2") == 0
    said = _said(capsys)
    assert f"{file}: 3 boxes without a person" in said and f"{file}: negatives; 75.0% of the samples" in said
    records = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert any("absent" in record for record in records)
    known = json.loads((tmp_path / "run/config.json").read_text())
    assert [each["people"] for each in known["data"]] == [2, 3] and known["sampling"] == [1.0, 2.0]


def _said(capsys):
    said = capsys.readouterr()
    return said.out + said.err
