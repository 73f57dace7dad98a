"""Skeletons know how they mirror, and say what is wrong with a user's own."""

import json
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagepose.errors import SkeletonError
from stagepose.skeleton import COCO_17, CROWDPOSE_14, LSP_14, MPII_16, SKELETONS, Skeleton, map_by_name, resolve


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_published_skeletons_are_consistent(skeleton):
    flip = skeleton.flip_index
    assert np.array_equal(flip[flip], np.arange(len(skeleton)))
    for i, name in enumerate(skeleton.names):
        mirrored = {"left": "right", "right": "left"}.get(name.split("_")[0])
        partner = skeleton.names[flip[i]]
        assert partner == (name if mirrored is None else mirrored + "_" + name.split("_", 1)[1])
    assert set(skeleton.upper) | set(skeleton.lower) == set(skeleton.names)
    assert not set(skeleton.upper) & set(skeleton.lower)
    limbs = {frozenset(pair) for pair in skeleton.limbs}
    assert len(limbs) == len(skeleton.limbs)
    assert {frozenset((skeleton.names[flip[a]], skeleton.names[flip[b]])) for a, b in skeleton.limb_index} == limbs


def test_sizes_and_known_values():
    assert [len(s) for s in (COCO_17, LSP_14, MPII_16, CROWDPOSE_14)] == [17, 14, 16, 14]
    assert COCO_17.index("left_wrist") == 9 and COCO_17.sigmas[0] == 0.026
    with pytest.raises(SkeletonError, match="has no keypoint 'left_hand'; its keypoints are nose, left_eye, "):
        COCO_17.index("left_hand")
    assert len(COCO_17.limbs) == 19
    assert LSP_14.names[0] == "right_ankle" and LSP_14.names[-1] == "head_top"
    assert CROWDPOSE_14.names[-2:] == ("head", "neck"), "as its files have them"


def test_mapping_by_name():
    index = map_by_name(LSP_14, COCO_17)
    assert (index >= 0).sum() == 12 and index[COCO_17.index("nose")] == -1
    assert LSP_14.names[index[COCO_17.index("left_knee")]] == "left_knee"


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_own_skeleton_from_a_file(tmp_path, suffix):
    path = tmp_path / f"hand{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps({"name": "dog", "names": ["tail", "left_paw", "right_paw"],
                                    "flip_pairs": [["left_paw", "right_paw"]]}))
    else:
        path.write_text('name = "dog"\nnames = ["tail", "left_paw", "right_paw"]\n'
                        'flip_pairs = [["left_paw", "right_paw"]]\n', encoding="utf-8-sig")  # as Windows' editor does
    dog = resolve(str(path))
    assert dog.name == "dog" and list(dog.flip_index) == [0, 2, 1] and len(dog.sigmas) == 3
    assert Skeleton.from_json(json.loads(json.dumps(dog.to_json()))) == dog


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_toml_is_read_back(tmp_path, skeleton):
    (tmp_path / "mine.toml").write_text(skeleton.to_toml())
    assert Skeleton.read(tmp_path / "mine.toml") == skeleton


@given(st.text(), st.lists(st.text(), min_size=2, unique=True), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_toml_holds_any_name(name, names, sigma):
    mine = Skeleton(name=name, names=tuple(names), sigmas=(sigma,) * len(names), limbs=((names[0], names[1]),))
    assert Skeleton.from_json(tomllib.loads(mine.to_toml())) == mine


@pytest.mark.parametrize(("change", "message"), [
    ({"names": []}, "names is empty"),
    ({"names": ["a", "a", "b"]}, "more than once"),
    ({"flip_pairs": [["a", "x"]]}, "names \\['x'\\]"),
    ({"flip_pairs": [["a", "b"], ["a", "c"]]}, "twice"),
    ({"flip_pairs": [["a", "a"]]}, "two different"),
    ({"sigmas": [0.1]}, "expected 3"),
    ({"sigmas": [0.1, 0.1, 0]}, "between 0 and 1"),
    ({"sigmas": ["x", 1, 1]}, "skeleton"),
    ({"limbs": [["a"]]}, "skeleton"),
    ({"colour": 1}, "no field"),
    ({"names": "abc"}, "names is 'abc'; expected a tuple of names"),
    ({"upper": "a"}, "upper is 'a'; expected"),
    ({"names": ["a", None, "c"]}, r"names is \('a', None, 'c'\); expected a tuple of names"),
    ({"sigmas": [True, 0.1, 0.1]}, r"sigmas is \(True, 0\.1, 0\.1\); expected a tuple of numbers"),
    ({"name": 3}, "name is 3; expected text"),
])
def test_mistakes_are_named(change, message):
    with pytest.raises(SkeletonError, match=message):
        Skeleton.from_json({"names": ["a", "b", "c"], **change})


@pytest.mark.parametrize(("part", "value"), [
    ("names", 3), ("names", ("a", 2)), ("flip_pairs", 3), ("flip_pairs", ("a", "b")), ("limbs", (("a",), 3)),
    ("sigmas", 0.5), ("sigmas", ("x", "y")), ("lower", None),
])
def test_parts_of_another_kind_are_named(part, value):
    with pytest.raises(SkeletonError, match=rf"skeleton 'mine': {part} is .*; expected a tuple of"):
        Skeleton(**{"name": "mine", "names": ("a", "b"), part: value})


def test_files_that_are_no_skeletons(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "bad.toml").write_text("names = [")
    for name in ("deep.json", "list.json", "bad.toml", "missing.json"):
        with pytest.raises(SkeletonError, match=name):
            resolve(str(tmp_path / name))
    with pytest.raises(SkeletonError, match="coco17"):
        resolve("coco18")


def test_a_union_of_a_name_and_a_file_in_either_order(tmp_path):
    file = tmp_path / "a+b.toml"
    file.write_text('name = "thumbs"\nnames = ["left_thumb", "right_thumb"]')
    assert resolve(str(file)).names == ("left_thumb", "right_thumb")
    file = file.rename(tmp_path / "thumbs.toml")
    assert resolve(f"coco17+{file}").names == (*COCO_17.names, "left_thumb", "right_thumb")
    assert resolve(f"{file}+coco17").names == ("left_thumb", "right_thumb", *COCO_17.names)


def test_a_union_has_a_pair_once_whichever_way_round(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"names": ["right_eye", "left_eye", "tail"], "flip_pairs": [["right_eye", "left_eye"]],
                                "limbs": [["right_eye", "left_eye"], ["right_eye", "tail"]]}))
    both = resolve(f"coco17+{file}")
    assert both.flip_pairs == COCO_17.flip_pairs and both.limbs == (*COCO_17.limbs, ("right_eye", "tail"))


def test_a_union_has_every_keypoint_once():
    both = resolve("coco17+lsp14")
    assert both.names == (*COCO_17.names, "neck", "head_top")
    assert both.sigmas[:17] == COCO_17.sigmas and both.flip_index[both.index("left_knee")] == both.index("right_knee")
    assert (map_by_name(LSP_14, both) >= 0).sum() == 14
    with pytest.raises(SkeletonError, match="coco17\\+lsp14"):
        resolve("coco17+nobody")


def test_a_key_that_stands_twice_in_a_file_is_refused(tmp_path):
    (tmp_path / "mine.json").write_text('{"names": ["a", "b"], "sigmas": [0.1, 0.1], "sigmas": [0.2, 0.2]}')
    with pytest.raises(SkeletonError, match=r"mine\.json: 'sigmas' stands twice in one object, .*; leave one out$"):
        Skeleton.read(tmp_path / "mine.json")
