"""``stagepose show --augmented``: what a sheet shows is what a training does."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_coco

from stagepose.cli import main
from stagepose.coco import read_dataset
from stagepose.draw import LEFT, RIGHT
from stagepose.geometry import crop_affine, fit_box
from stagepose.making.sheet import HEADER
from stagepose.skeleton import COCO_17
from stagepose.training.crops import open_or_pack
from stagepose.training.loop import sample_keys
from stagepose.training.people import PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.posebuild import crop_spec, task_to_look_at
from stagepose.training.presets import pose_preset
from stagepose.training.samples import GAP

STILL = ("rotation_chance=0", "scale=0", "shift=0", "half_body_chance=0", "colour=0", "grey_chance=0",
         "occlusion_chance=0", "blur_chance=0")
SIZE = (192, 256)


def show(file, *options, out="out"):
    return main(["show", str(file), "--out", str(file.parent / out), "--augmented", "pose-slim", *options])


def sheet(file, out="out"):
    return np.asarray(Image.open(file.parent / out / "sheet.jpg")).astype(int)


def like(colour):
    """Which side's colour is nearest, whatever a JPEG has made of it."""
    return min((LEFT, RIGHT), key=lambda side: np.abs(colour - side).sum())


def test_people_cut_out_when_asked_for_are_those_of_a_training(tmp_path):
    file = tiny_coco(tmp_path, images=5)
    recipe = pose_preset("pose-small")
    store = open_or_pack(file, tmp_path / "images", tmp_path / "crops", spec=crop_spec(recipe), skeleton=COCO_17)
    looked = task_to_look_at(recipe, read_dataset(file), tmp_path / "images", seed=3)
    trained = PoseTask(looked.network, recipe.pose, PeopleSets([store]), seed=3)
    assert recipe.pose.augment.occlusion_chance and not np.array_equal(store.annotation_ids, np.arange(1, 11)[::-1])
    keys = sample_keys(trained, 0, 24)  # more than there are: the next epochs' too
    ours, theirs = looked.batch(keys), trained.batch(keys)
    assert torch.equal(ours.images, theirs.images)
    np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)
    np.testing.assert_array_equal(ours.areas, theirs.areas)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_mirrored_persons_left_wrist_has_the_left_colour_at_the_mirrored_place(mirrored, tmp_path):
    file = tiny_coco(tmp_path, images=1, people=1)
    data = json.loads(file.read_text())
    person = data["annotations"][0]
    wrists = np.array([(60.0, 40), (120, 100)])  # left, right
    elbows = [60, 60, 2, 120, 120, 2]  # a joint that is alone is drawn small
    person["keypoints"] = [0] * 21 + elbows + [60, 40, 2, 120, 100, 2] + [0] * 18
    person |= {"num_keypoints": 4, "bbox": [40, 10, 110, 140]}
    file.write_text(json.dumps(data))
    assert show(file, "--count", "1", "--augment", f"flip_chance={int(mirrored)}", *STILL) == 0
    picture = sheet(file)
    assert picture.shape == (SIZE[1] + HEADER + 2 * GAP, SIZE[0] + 2 * GAP, 3)
    tile = picture[GAP + HEADER : GAP + HEADER + SIZE[1], GAP : GAP + SIZE[0]]
    box = np.array([40, 10, 150, 150.0])
    places = crop_affine(fit_box(box, SIZE[0] / SIZE[1]), SIZE).points(wrists)
    if mirrored:  # what is the right one in the picture is the left one of the mirrored person
        places = [SIZE[0] - 1, 0] + places[::-1] * [-1, 1]
    for (x, y), side in zip(np.rint(places).astype(int), (LEFT, RIGHT), strict=True):
        assert np.abs(tile[y, x] - side).sum() < 150 and like(tile[y, x]) == side


def test_samples_are_as_many_as_asked_for_and_options_change_them(tmp_path, capsys):
    file = tiny_coco(tmp_path, images=2)
    assert show(file, "--count", "12", "--input-size", "64", "96") == 0  # each of 4 people three times
    assert capsys.readouterr().out == (f"{tmp_path / 'out/sheet.jpg'}: the first 12 samples of 4 people, as the "
                                       "network is shown them\n")
    first = sheet(file)
    assert first.shape == (2 * (96 + HEADER + GAP) + GAP, 10 * (64 + GAP) + GAP, 3)
    small = ("--count", "12", "--input-size", "64", "96")
    assert show(file, *small, out="again") == 0 and (sheet(file, "again") == first).all()
    for number, options in enumerate([["--seed", "1"], ["--box-padding", "2"], ["--augment", "rotation=80"],
                                      ["--no-mirror"]]):
        assert show(file, *small, *options, out=str(number)) == 0
        assert (sheet(file, str(number)) != first).any(), options


def test_what_training_refuses_is_refused(tmp_path, capsys):
    file = tiny_coco(tmp_path, images=2)
    skeleton = tmp_path / "face.toml"
    skeleton.write_text('name = "face"\nnames = ["nose", "left_eye"]\n')
    for options, message in ((["--augmented", "person-small"], "person-small is a detector"),
                             (["--augmented", "pose-smal"], "did you mean pose-small"),
                             (["--augment", "shft=1"], "--augment shft=1: no setting 'shft'; did you mean shift?"),
                             (["--input-size", "60", "96"], "both sides must be divisible by 32"),
                             (["--count", "5000"], "count is 5000; one sheet holds 1 to 1,000 samples"),
                             (["--skeleton", str(skeleton)], "'face' has no flip_pairs")):
        assert show(file, *options) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]
    assert show(file, "--skeleton", str(skeleton), "--no-mirror", "--count", "2") == 0
    (tmp_path / "images/000000000002.png").unlink()
    assert show(file, out="none") == 1
    err = capsys.readouterr().err
    assert "000000000002.png: no such file" in err and "'stagepose check' lists all" in err
    assert not (tmp_path / "none").exists()
