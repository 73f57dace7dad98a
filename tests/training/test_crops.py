"""The crop store: what is packed is what is read, in any order, in either form, and everybody is accounted for."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_coco, tiny_dict, write_json

from stagepose.cli import main
from stagepose.coco import read_dataset
from stagepose.errors import ConfigError, DatasetError
from stagepose.images import read_image
from stagepose.skeleton import COCO_17, LSP_14
from stagepose.training import packing, shards, workfolder
from stagepose.training.crops import CropSpec, PackConfig, open_or_pack, open_store, pack, pack_file

SPEC = CropSpec(input_size=(96, 128))  # a canvas of 144 x 192, 82,944 bytes: 12 people in a shard of 1 MB


def pack_tiny(folder, images=4, people=2, *, spec=SPEC, **options):
    path = tiny_coco(folder, images=images, people=people)
    return path, pack_file(path, folder / "images", folder / "crops", spec=spec, skeleton=COCO_17,
                           config=PackConfig(**options))


def expected_crops(path, store):
    """Every person of the store cut out anew, straight from its picture."""
    names = dict(zip(np.unique(store.image_ids).tolist(), store.image_names, strict=True))
    pictures = {i: read_image(path.parent / "images" / name).pixels for i, name in names.items()}
    return np.stack([store.affine(row).warp(pictures[int(image)], store.spec.canvas)
                     for row, image in enumerate(store.image_ids)])


# --- packing


@pytest.mark.parametrize(("folder", "name"), [(".", "{}/person_keypoints.json"), ("set", "person_keypoints.json"),
                                              ("set/images", "../person_keypoints.json")])
def test_a_set_is_packed_once_from_whichever_folder_it_is_named(tmp_path, monkeypatch, folder, name):
    path = tiny_coco(tmp_path / "set", images=2)
    monkeypatch.chdir(tmp_path / folder)
    named = Path(name.format("set"))
    store = open_or_pack(named, named.parent / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)
    assert store.home.name.startswith("set-person_keypoints-")
    open_or_pack(path, path.parent / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)
    assert [home.name for home in (tmp_path / "crops").iterdir()] == [store.home.name]


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_a_store_is_known_again_where_its_set_lies_in_a_folder_of_another_name(tmp_path, form):
    path, store = pack_tiny(tmp_path / "set", form=form)
    moved = Path(shutil.copytree(tmp_path / "set", tmp_path / "elsewhere")) / path.name
    images, crops = moved.parent / "images", moved.parent / "crops"
    found = open_or_pack(moved, images, crops, spec=SPEC, skeleton=COCO_17)
    assert found.home == crops / store.home.name
    again = pack_file(moved, images, crops, spec=SPEC, skeleton=COCO_17, config=PackConfig(form=form))
    assert again.home == found.home and len(list(crops.iterdir())) == 1


def test_the_store_is_packed_once_and_counts_what_it_leaves_out(tmp_path):
    path = tiny_coco(tmp_path, images=3)
    good = (tmp_path / "images" / "000000000002.png").read_bytes()
    (tmp_path / "images" / "000000000002.png").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match="--drop-bad"):
        open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)
    assert not (tmp_path / "crops").exists()
    store = open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17, drop_bad=True)
    assert len(store) == 4 and store.left_out["image unreadable"] == 2
    assert store.read([0]).shape == (1, 192, 144, 3) and not list((tmp_path / "crops").rglob("*.tmp"))
    assert not list((tmp_path / "crops").rglob("*partial*"))
    made = (store.home / "people.npz").stat().st_mtime_ns
    again = open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)
    assert np.array_equal(again.keypoints, store.keypoints)
    assert (again.home / "people.npz").stat().st_mtime_ns == made
    (tmp_path / "images" / "000000000002.png").write_bytes(good)
    assert len(open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)) == 6


def test_a_changed_picture_in_a_folder_of_its_own_is_packed_anew(tmp_path):
    """A file_name may hold a folder; what else lies there, and links in a circle, mean nothing."""
    path = tiny_coco(tmp_path, images=2)
    path.write_text(path.read_text().replace('"000000000002.png"', '"day/one/2.png"'))
    picture = tmp_path / "images/day/one/2.png"
    picture.parent.mkdir(parents=True)
    (tmp_path / "images/000000000002.png").rename(picture)
    (picture.parent / "round").symlink_to(tmp_path / "images", target_is_directory=True)

    def packed():
        return open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)

    store = packed()
    (picture.parent / "notes.txt").write_text("sunny")
    assert packed().home == store.home
    Image.new("RGB", (192, 160), "red").save(picture)
    assert packed().home != store.home and (packed().read([3]) == [255, 0, 0]).all(-1).mean() > 0.3


def test_what_is_no_picture_decides_nothing(tmp_path):
    """What a file manager leaves behind, and a link to nothing: the store is still that of its pictures."""
    path, store = pack_tiny(tmp_path)
    images = tmp_path / "images"
    (images / ".DS_Store").write_bytes(b"x")
    (images / "notes.txt").write_text("mine")
    (images / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (images / "circle.png").symlink_to("circle.png")
    (images / "within").symlink_to(tmp_path / "no folder")
    again = open_or_pack(path, images, tmp_path / "crops", spec=SPEC, skeleton=COCO_17)
    assert again.home == store.home and again.fingerprint == store.fingerprint
    first = images / "000000000001.png"
    first.rename(tmp_path / "elsewhere.png")
    first.symlink_to(tmp_path / "elsewhere.png")  # a link to a picture is that picture
    linked = open_or_pack(path, images, tmp_path / "crops", spec=SPEC, skeleton=COCO_17)
    assert linked.fingerprint == store.fingerprint
    (tmp_path / "elsewhere.png").unlink()
    with pytest.raises(DatasetError, match=r"000000000001\.png.*--drop-bad"):
        open_or_pack(path, images, tmp_path / "crops", spec=SPEC, skeleton=COCO_17)


def test_everybody_is_accounted_for(tmp_path):
    """People and those left out, by reason, are all annotations of the file."""
    path = tiny_coco(tmp_path, images=5)
    data = json.loads(path.read_text())
    data["annotations"][0]["iscrowd"] = 1
    data["annotations"][1].update(keypoints=[0] * 51, num_keypoints=0)
    data["annotations"][2].update(keypoints=[0] * 51, num_keypoints=0)
    path.write_text(json.dumps(data))
    (tmp_path / "images" / "000000000003.png").write_bytes(b"not a picture")
    Image.new("RGB", (50, 40)).save(tmp_path / "images" / "000000000005.png")
    store = open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17, drop_bad=True)
    assert store.left_out == {"crowd": 1, "no labelled keypoint": 2, "image unreadable": 2, "image of another size": 2}
    assert len(store) + sum(store.left_out.values()) == len(data["annotations"])
    assert list(store.annotation_ids) == [4, 7, 8]
    assert np.array_equal(store.read(range(3)), expected_crops(path, store))  # nobody has another's pixels


def test_damage_that_shows_only_while_packing_is_refused_or_counted(tmp_path):
    path = tiny_coco(tmp_path, images=4)
    file = tmp_path / "images" / "000000000002.png"
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    file.write_bytes(data)
    dataset, home = read_dataset(path), tmp_path / "store"
    with pytest.raises(DatasetError, match=r"1 pictures cannot be used.*--drop-bad"):
        pack(dataset, tmp_path / "images", home, spec=SPEC)
    assert not home.exists()
    file.unlink()  # what is packed already is not read again
    pack(dataset, tmp_path / "images", home, spec=SPEC, drop_bad=True)
    store = open_store(home)
    assert store.left_out["image unreadable"] == 2 and list(store.annotation_ids) == [1, 2, 5, 6, 7, 8]


def test_nobody_left_is_an_error(tmp_path):
    path = tiny_coco(tmp_path, images=2)
    for file in (tmp_path / "images").iterdir():
        file.write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match="none of its images can be used"):
        open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17, drop_bad=True)
    assert not list((tmp_path / "crops").iterdir())
    with pytest.raises(DatasetError, match="no person with a labelled keypoint"):
        pack(read_dataset(write_json(tmp_path, tiny_dict(1, 0))), tmp_path / "images", tmp_path / "no", spec=SPEC)


def test_crops_hold_the_people(tmp_path):
    """Joints drawn in the picture are found at the store's keypoints: packing moves pixels and points together."""
    _, store = pack_tiny(tmp_path, images=2, spec=CropSpec(input_size=(192, 256)))
    crops = store.read(range(len(store)))
    visible = store.keypoints[..., 2] == 2
    colours = [crops[i, round(float(y)), round(float(x))] for i, k in zip(*np.nonzero(visible), strict=True)
               for x, y in [store.keypoints[i, k, :2]]]
    assert np.mean([c.max() > 60 for c in colours]) > 0.95


def test_labels_are_those_of_the_file(tmp_path):
    path, store = pack_tiny(tmp_path)
    dataset = read_dataset(path)
    rows = [dataset.ids.tolist().index(i) for i in store.annotation_ids]
    assert np.array_equal(store.image_ids, dataset.image_ids[rows])
    assert np.allclose(store.areas, dataset.areas[rows])
    assert set(store.image_names) == {image.file_name for image in dataset.images}
    for row, source in enumerate(rows):
        labelled = dataset.keypoints[source, :, 2] > 0
        back = store.affine(row).inverse().points(store.keypoints[row, :, :2])
        assert np.allclose(back[labelled], dataset.keypoints[source, labelled, :2], atol=1e-3)
        assert np.array_equal(store.keypoints[row, :, 2], dataset.keypoints[source, :, 2])


def test_people_lie_picture_by_picture_whatever_the_files_order(tmp_path, monkeypatch):
    path = tiny_coco(tmp_path, images=3)
    data = json.loads(path.read_text())
    data["annotations"] = data["annotations"][::2] + data["annotations"][1::2]
    path.write_text(json.dumps(data))
    decoded = []
    monkeypatch.setattr("stagepose.training.cutting.read_image", lambda p: decoded.append(p.name) or read_image(p))
    store = open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)
    assert list(store.image_ids) == [1, 1, 2, 2, 3, 3]
    assert sorted(decoded) == sorted(store.image_names)  # each once
    assert np.array_equal(store.read(range(6)), expected_crops(path, store))


def test_a_missing_area_is_estimated(tmp_path):
    path = tiny_coco(tmp_path, images=1, people=1)
    data = json.loads(path.read_text())
    del data["annotations"][0]["area"]
    path.write_text(json.dumps(data))
    store = open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)
    assert store.areas[0] == pytest.approx(0.536 * np.prod(data["annotations"][0]["bbox"][2:]), rel=1e-3)


def test_progress_counts_to_the_end(tmp_path):
    path = tiny_coco(tmp_path, images=120, people=1)
    told = []
    open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=CropSpec(input_size=(32, 32)), skeleton=COCO_17,
                 progress=lambda done, total: told.append((done, total)))
    assert told == [(50, 120), (100, 120), (120, 120)]


def test_the_second_packer_waits_and_finds_the_store(tmp_path, monkeypatch, caplog):
    path = tiny_coco(tmp_path, images=2)
    begun, go_on, decoded = threading.Event(), threading.Event(), []

    def slow(file):
        decoded.append(file.name)
        begun.set()
        assert go_on.wait(60)
        return read_image(file)

    monkeypatch.setattr("stagepose.training.cutting.read_image", slow)
    stores = []
    packers = [threading.Thread(target=lambda: stores.append(
        open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17))) for _ in range(2)]
    packers[0].start()
    assert begun.wait(60)
    monkeypatch.setattr(workfolder.log, "warning", lambda *_: go_on.set())  # the first goes on once the second waits
    packers[1].start()
    for packer in packers:
        packer.join(60)
    assert len(stores) == 2 and sorted(decoded) == ["000000000001.png", "000000000002.png"]
    assert len(list((tmp_path / "crops").iterdir())) == 1


# --- reading


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_what_is_read_is_what_was_packed(tmp_path, form):
    """Across shards, in any order, with repeats, and the same in any batch."""
    path, store = pack_tiny(tmp_path, images=15, people=2, form=form, shard_mb=1, spec=SPEC)
    truth = expected_crops(path, store)
    assert len(store.shards) == (3 if form == "raw" else 1)
    rows = np.random.default_rng(0).integers(0, len(store), 50)
    got = store.read(rows)
    if form == "raw":
        assert np.array_equal(got, truth[rows])
    else:
        errors = np.abs(got.astype(int) - truth[rows]).mean((1, 2, 3))
        others = np.abs(got.astype(int) - truth[(rows + 1) % len(truth)]).mean((1, 2, 3))
        assert (errors < 4).all() and (others > 2 * errors).all()
        swapped = np.abs(got[..., ::-1].astype(int) - truth[rows]).mean((1, 2, 3))
        assert (swapped > errors).all()  # RGB, not BGR
    assert np.array_equal(got, np.concatenate([store.read([row]) for row in rows.tolist()]))
    assert all(map(np.array_equal, store.crops(rows.tolist()), got))
    assert store.read([]).shape == (0, 192, 144, 3)


def test_jpegs_in_several_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("stagepose.training.cutting.JPEG_SHARE", 1.0)
    _, several = pack_tiny(tmp_path / "a", images=15, people=2, form="jpeg", shard_mb=1)
    monkeypatch.undo()
    _, one = pack_tiny(tmp_path / "b", images=15, people=2, form="jpeg")
    assert (len(several.shards), len(one.shards)) == (3, 1)
    assert np.array_equal(several.read(range(30)), one.read(range(30)))


def test_a_picture_of_two_shards(tmp_path):
    path, store = pack_tiny(tmp_path, images=5, people=5, shard_mb=1)
    assert [shard.people for shard in store.shards] == [12, 12, 1]
    assert np.array_equal(store.read(range(25)), expected_crops(path, store))


def test_chunks_are_all_people_in_order(tmp_path):
    _, store = pack_tiny(tmp_path, images=15, people=2, shard_mb=1)
    whole = store.read(range(30))
    parts = list(store.chunks(8))
    assert [(rows.start, rows.stop) for rows, _ in parts] == [(0, 8), (8, 16), (16, 24), (24, 30)]
    assert np.array_equal(np.concatenate([crops for _, crops in parts]), whole)


def test_pages_handed_back_are_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "RELEASE_AFTER", 12 * (SPEC.row_bytes + shards.MAPPED_AROUND))  # every second of 8
    released = []
    release = shards.ShardReader.release
    monkeypatch.setattr(shards.ShardReader, "release", lambda self: released.append(1) or release(self))
    path, store = pack_tiny(tmp_path)
    truth = expected_crops(path, store)
    for _ in range(5):
        assert np.array_equal(store.read(range(8)), truth)
    assert len(released) == 2


@pytest.mark.parametrize("rows", [[-1], [8], [0, 100]])
def test_rows_outside_are_refused(tmp_path, rows):
    _, store = pack_tiny(tmp_path)
    with pytest.raises(IndexError, match="of 8 people"):
        store.read(rows)


def test_raw_pixels_are_looked_at_where_they_lie(tmp_path):
    """In the file itself: nothing is copied, and nobody can write."""
    _, store = pack_tiny(tmp_path)
    first, again = store.crops([3])[0], store.crops([3, 3])[1]
    assert np.shares_memory(first, again) and not first.flags.writeable


def first_pixels(store):
    return store.read([0, 5])


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_workers_open_the_files_again(tmp_path, form):
    _, store = pack_tiny(tmp_path, form=form)
    here = first_pixels(store)
    assert len(pickle.dumps(store)) < 1000  # a path, no pixels and no labels
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(first_pixels, (store,)), here)


# --- names and forms


def test_a_store_that_was_changed_keeps_its_changes_on_the_way_to_a_data_worker(tmp_path):
    _, store = pack_tiny(tmp_path)
    moved = replace(store, keypoints=store.keypoints + 1)
    there = pickle.loads(pickle.dumps(moved))
    assert np.array_equal(there.keypoints, moved.keypoints) and np.array_equal(there.read([3]), store.read([3]))
    assert len(pickle.dumps(store)) < 1000 < len(pickle.dumps(moved))  # as it is on disk: its path will do


def test_train_takes_the_store_of_jpegs_that_pack_left(tmp_path):
    path, store = pack_tiny(tmp_path, form="jpeg", quality=80)
    better = pack_file(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17,
                       config=PackConfig(form="jpeg", quality=95))
    assert better.home != store.home and better.megabytes > store.megabytes
    assert better.fingerprint != store.fingerprint  # a resume notices that the pixels are others

    def found():
        return open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)

    assert found().home == better.home
    raw = pack_file(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)
    assert found().home == raw.home and raw.form == "raw"


def test_other_specs_and_skeletons_are_other_stores(tmp_path):
    path, store = pack_tiny(tmp_path)
    images, crops = tmp_path / "images", tmp_path / "crops"
    wide = pack_file(path, images, crops, spec=CropSpec(input_size=(96, 128), context=2), skeleton=COCO_17)
    lsp = pack_file(path, images, crops, spec=SPEC, skeleton=LSP_14)
    assert len({store.home, wide.home, lsp.home}) == 3
    assert wide.read([0]).shape == (1, 256, 192, 3) and lsp.keypoints.shape[1:] == (14, 3)
    assert lsp.skeleton.names == LSP_14.names


def test_shards_cannot_be_more_than_a_process_may_open(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MOST_SHARDS", 2)
    _, store = pack_tiny(tmp_path, images=15, people=2, shard_mb=1)
    assert [shard.people for shard in store.shards] == [15, 15]


@pytest.mark.parametrize("wrong", [{"quality": 0}, {"quality": 101}, {"shard_mb": 0}, {"jobs": 0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match=str(*wrong)):
        PackConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"input_size": (0, 128)}, {"context": 0.5}, {"context": 100}])
def test_specs_out_of_range(wrong):
    with pytest.raises(ConfigError):
        CropSpec(**wrong)


# --- the command


def test_pack_packs_what_train_opens(tmp_path, capsys):
    first, second = tiny_coco(tmp_path / "a", images=3), tiny_coco(tmp_path / "b", images=2, people=1)
    data = json.loads(first.read_text())
    data["annotations"][0]["iscrowd"] = 1
    first.write_text(json.dumps(data))
    out = tmp_path / "crops"
    command = ["pack", str(first), str(second), "--out", str(out), "--input-size", "96", "128", "--jobs", "1"]
    assert main(command) == 0
    said, noted = capsys.readouterr()
    lines = said.splitlines()
    assert "5 people" in lines[0] and "0.4 MB" in lines[0] and str(first) in lines[0]
    assert lines[1].strip() == "left out: 1 x crowd" and "2 people" in lines[2] and len(lines) == 3
    assert "people cut out of 3 of 3 pictures" in noted
    store = open_or_pack(first, tmp_path / "a/images", out, spec=SPEC, skeleton=COCO_17)
    assert lines[0].startswith(f"{store.home}: ") and len(list(out.iterdir())) == 2
    assert main(command) == 0
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("padding", ["1.1", "2.5"])
def test_train_finds_what_pack_packed_for_the_same_box_padding(tmp_path, padding):
    path, crops = tiny_coco(tmp_path, images=2, people=1), tmp_path / "crops"
    view = ["--input-size", "64", "64", "--box-padding", padding]
    assert main(["pack", str(path), "--out", str(crops), *view]) == 0
    assert main(["train", "u-300m", "--data", str(path), "--out", str(tmp_path / "run"), "--crops", str(crops), *view,
                 "--batch", "2", "--steps", "1", "--threads", "1"]) == 0
    (home,) = crops.iterdir()
    assert open_store(home).spec.canvas == ((96, 96) if padding == "1.1" else (192, 192))


def test_pack_takes_pictures_from_elsewhere(tmp_path, capsys):
    path = tiny_coco(tmp_path / "a")
    shutil.move(tmp_path / "a/images", tmp_path / "pictures")
    command = ["pack", str(path), "--out", str(tmp_path / "crops"), "--input-size", "64", "64"]
    assert main(command) == 1
    assert "no such folder; --images names the one" in capsys.readouterr().err
    assert main([*command, "--images", str(tmp_path / "pictures"), "--form", "jpeg"]) == 0
    assert "-jpeg90: 8 people" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "code", "message"), [
    ([], 2, ""),
    (["{set}", "--quality", "0"], 1, "quality is 0, expected 1 to 100"),
    (["{set}", "--box-padding", "0.4"], 1, "box padding 0.4 must be 0.5 to 4; 1.25 is usual"),
    (["{set}", "--skeleton", "cat"], 1, "no skeleton named 'cat'"),
    (["missing.json"], 1, "missing.json: cannot read"),
    (["{set}", "--form", "png"], 2, "png"),
])
def test_mistakes_end_in_one_line(tmp_path, capsys, words, code, message):
    path = tiny_coco(tmp_path, images=1)
    assert main(["pack", *(w.format(set=path) for w in words), "--out", str(tmp_path / "crops")]) == code
    error = capsys.readouterr().err
    assert message in error and (code == 2 or error.count("\n") == 1)
    assert not (tmp_path / "crops").exists()
