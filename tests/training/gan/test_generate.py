"""People in new poses as an ordinary COCO set: labels go with the limbs, the same seed gives the same pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest

from stagepose.cli import main
from stagepose.coco import check_dataset, read_dataset
from stagepose.errors import ConfigError
from stagepose.extend import Judge, extend_set
from stagepose.images import read_image
from stagepose.runtime import read_info
from stagepose.skeleton import COCO_17
from stagepose.training.gan import generate
from stagepose.training.gan.generate import GanRecipe
from stagepose.training.gan.limbs import limbs_of
from stagepose.training.loop import train
from stagepose.training.people import PoseData
from stagepose.training.randomness import weighted_order
from stagepose.training.table import Table

from .drawn import COLOURS, drawn_coco
from .test_learning import toy_task
from .test_task import tiny_recipe

LIMBS = limbs_of(COCO_17)
COUNT = 24


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Drawn people, one of them with a bystander, and a run that has learnt next to nothing."""
    folder = tmp_path_factory.mktemp("drawn")
    path = drawn_coco(folder, 40)
    data = json.loads(path.read_text())
    for number, crowd in ((5, 0), (6, 1)):
        data["annotations"].append({"id": number, "image_id": 1, "category_id": 1, "iscrowd": crowd,
                                    "bbox": [2, 2, 30, 60], "area": 900, "keypoints": [0] * 51, "num_keypoints": 0})
    for image in data["images"][::2]:
        image["all_person_boxes"] = False
    path.write_text(json.dumps(data))
    recipe = tiny_recipe(2)
    train(toy_task(folder, recipe), recipe.train, folder / "run")
    return folder


def made(home, out, count=COUNT, **changes):
    recipe = GanRecipe(data=home / "person_keypoints.json", run=home / "run", **changes)
    extend_set(recipe, count, out, judge=None, jobs=1, progress=lambda done, total: None)
    return out / "person_keypoints.json"


def test_labels_go_with_the_limbs(home, tmp_path):
    path = made(home, tmp_path / "out")
    assert check_dataset(path) == []
    dataset, right, checked = read_dataset(path), 0, 0
    people = np.flatnonzero(dataset.with_keypoints())
    assert len(people) >= COUNT // 2
    for row in people:
        pixels = read_image(path.parent / "images" / dataset.image_by_id[dataset.image_ids[row]].file_name).pixels
        for start, end in LIMBS.bones:
            tip = COCO_17.names[next(chain[-1] for chain in LIMBS.chains if end in chain)]
            if (dataset.keypoints[row, [start, end], 2] == 2).all():
                x, y = dataset.keypoints[row, [start, end], :2].mean(0).round().astype(int)
                right += np.abs(pixels[y, x].astype(int) - COLOURS[tip]).mean() < 60
                checked += 1
    assert checked > 100 and right / checked > 0.9  # the rest lies under another limb


def test_it_is_an_ordinary_set_that_says_what_it_was_made_of(home, tmp_path):
    data = json.loads(made(home, tmp_path / "out", count=45).read_text())
    assert data["info"]["generated"] is True and data["licenses"] == [{"id": 1, "name": "CC0"}]
    sources = [source for image in data["images"] for source in image["sources"]]
    assert all(source["license"] == 1 and source["person"] == 10 * int(source["file_name"][:6]) for source in sources)
    partly = [image["sources"][0]["file_name"] for image in data["images"] if "all_person_boxes" in image]
    assert 0 < len(partly) < len(data["images"]) and all(int(name[:6]) % 2 for name in partly)
    kinds = {person["pose"] for person in data["annotations"] if person["num_keypoints"]}
    assert kinds == {"real", "mixed", "turned"}
    bystanders = [person for person in data["annotations"] if not person["generated"]]
    assert len(bystanders) in (2, 4) and all(person["num_keypoints"] == 0 for person in bystanders)
    assert [person["iscrowd"] for person in bystanders[:2]] == [0, 1]
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    for person in data["annotations"]:
        points = np.reshape(person["keypoints"], (-1, 3))
        assert (points[:, :2] >= 0).all() and (points[:, :2] <= np.array(sizes[person["image_id"]]) - 1).all()


def test_the_same_seed_gives_the_same_pictures(home, tmp_path):
    first, second = made(home, tmp_path / "a", 6), made(home, tmp_path / "b", 4)
    made(home, tmp_path / "b", 6)
    assert first.read_bytes() == second.read_bytes()
    for image in (tmp_path / "a" / "images").iterdir():
        assert image.read_bytes() == (tmp_path / "b" / "images" / image.name).read_bytes()
    other = made(home, tmp_path / "c", 6, seed=1)
    assert json.loads(other.read_text())["annotations"] != json.loads(first.read_text())["annotations"]


def test_the_order_of_people_is_drawn_once_a_turn(home, monkeypatch):
    drawn = []
    monkeypatch.setattr(generate, "weighted_order", lambda *a: drawn.append(a[1]) or weighted_order(*a))
    maker = GanRecipe(data=home / "person_keypoints.json", run=home / "run").maker()
    maker.make([0, 1, 2, len(maker.rows), len(maker.rows) + 1])
    assert drawn == [0, 1]


def test_hard_people_lend_their_poses(home, tmp_path):
    recipe = GanRecipe(data=home / "person_keypoints.json", run=home / "run", hard=tmp_path / "staged")
    with pytest.raises(ConfigError, match="nobody is judged after stage 1 there"):
        recipe.identity()
    task = toy_task(home, tiny_recipe(1))
    oks = np.ones(len(task.reader))
    oks[4] = 0
    (tmp_path / "staged" / "stages").mkdir(parents=True)
    people = PoseData(task.reader.stores, [1.0], tiny_recipe(1).repair.augment, pixels=False)
    Table.of(people, stage=1, oks=oks, scores=oks).save(tmp_path / "staged" / "stages" / "1.npz")
    weights = recipe.donor_weights()
    assert weights.argmax() == 4 and weights[4] == 1 and weights[5] == pytest.approx(0.05)
    assert weights[-1] == 0  # the bystander is in no table
    assert recipe.identity() != GanRecipe(data=recipe.data, run=recipe.run).identity()


def test_hard_people_of_other_sets_are_refused(home, tmp_path):
    """Ids are counted from 1 in many a set: they say who is meant within one alone."""
    task = toy_task(home, tiny_recipe(1))
    recipe = GanRecipe(data=home / "person_keypoints.json", run=home / "run", hard=tmp_path / "staged")
    file = tmp_path / "staged" / "stages" / "1.npz"
    file.parent.mkdir(parents=True)
    [store] = task.reader.stores
    moved = replace(store, image_ids=store.image_ids + 1000)
    for stores, said in (([store, store], "the ids of 40 of its 80 people stand there twice"),
                         ([store, moved], "40 of its 80 people are not in the set, such as annotation 10 of image "
                                          "1001")):
        people = PoseData(stores, [1.0, 1.0], tiny_recipe(1).repair.augment, pixels=False)
        oks = np.repeat([0.0, 1.0], len(store))
        Table.of(people, stage=1, oks=oks, scores=oks).save(file)
        with pytest.raises(ConfigError, match=rf"{said}.*give a run of 'stagepose train-stages' on .* alone"):
            recipe.check()


def test_a_network_that_taught_never_judges(home):
    recipe = GanRecipe(data=home / "person_keypoints.json", run=home / "run")
    assert recipe.taught_by == frozenset()
    judge = Judge(model="pose-small")
    judge.check(recipe)
    config = home / "run" / "config.json"
    before = config.read_text()
    try:
        for known in (read_info("pose-small").sha256, judge.digest):  # of the weights; of the whole file, as of old
            config.write_text(json.dumps(json.loads(before) | {"teacher": {"sha256": known}}))
            with pytest.raises(ConfigError, match="taught"):
                judge.check(recipe)
    finally:
        config.write_text(before)


def test_the_command_says_what_it_lacks(home, tmp_path, capsys):
    data = str(home / "person_keypoints.json")
    assert main(["gan", "extend", data, "--by", "gan", "-n", "2", "--out", str(tmp_path / "o")]) == 1
    assert "--by gan needs a trained network: train one with 'stagepose gan train" in capsys.readouterr().err
    assert main(["gan", "extend", data, "--by", "gan", "--with", str(tmp_path), "-n", "2", "--out",
                 str(tmp_path / "o")]) == 1
    assert "no run folder of 'stagepose gan train'" in capsys.readouterr().err
    assert main(["gan", "extend", data, "--by", "gan", "--with", str(home / "run"), "-n", "4", "--out",
                 str(tmp_path / "o"), "--jobs", "1"]) == 0
    assert "new people" in capsys.readouterr().out


def test_a_refused_command_claims_no_folder(home, tmp_path, capsys):
    command = ["gan", "extend", "--by", "gan", "--with", str(home / "run"), "-n", "1", "--out", str(tmp_path / "o")]
    content = json.loads((home / "person_keypoints.json").read_text())
    made = tmp_path / "made.json"
    sources = {"generated": True, "sources": [{"file_name": "photo.jpg"}]}
    made.write_text(json.dumps(content | {"images": [image | sources for image in content["images"]]}))
    assert main([*command, str(made)]) == 1
    assert "generated already" in capsys.readouterr().err
    assert main([*command, str(home / "person_keypoints.json"), "--device", "gpu"]) == 1
    assert "device 'gpu' is not here" in capsys.readouterr().err
    few = tmp_path / "few" / "person_keypoints.json"
    drawn_coco(few.parent, 5)
    assert main([*command, str(few), "--jobs", "2"]) == 1
    assert f"error: {few}: no poses to learn from: only 5 people show" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("options", [["--with", "RUN"], ["--by", "gan", "--with", "RUN", "--people", "2"]])
def test_options_of_the_other_way_are_refused(home, tmp_path, capsys, options):
    given = [str(home / "run") if option == "RUN" else option for option in options]
    data = str(home / "person_keypoints.json")
    assert main(["gan", "extend", data, "-n", "1", "--out", str(tmp_path / "o"), *given]) == 1
    assert "leave them out" in capsys.readouterr().err
