"""Settings of the augmentation as the command line changes them."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from tiny import tiny_coco

from stagepose.cli import main
from stagepose.errors import ConfigError
from stagepose.training.augment import AugmentConfig
from stagepose.training.detector.augment import BoxAugment
from stagepose.training.settings import changed

DOCS = Path(__file__).parents[2] / "docs/train_your_own.md"


def test_values_are_of_the_kind_that_the_field_has():
    told = changed(AugmentConfig(), ["shift=0.1", "stretch=1.2,1.4", "jpeg_quality=10,30", "half_body_joints=5"],
                   "--augment")
    assert (told.shift, told.stretch, told.jpeg_quality, told.half_body_joints) == (0.1, (1.2, 1.4), (10, 30), 5)
    assert changed(AugmentConfig(), [], "--augment") == AugmentConfig()
    assert changed(BoxAugment(), ["zoom=0.5,2", "most_pasted=1"], "--augment").zoom == (0.5, 2.0)


@pytest.mark.parametrize(("texts", "message"), [
    (["shift"], "--augment shift: expected NAME=VALUE, such as rotation=40.0"),
    (["shfit=1"], "--augment shfit=1: no setting 'shfit'; did you mean shift?"),
    (["quux=1"], "--augment quux=1: no setting 'quux'; there are rotation, rotation_chance, "),
    (["shift=much"], "--augment shift=much: expected a number, such as 0.05"),
    (["half_body_joints=2.5"], "--augment half_body_joints=2.5: expected a whole number, such as 8"),
    (["stretch=2"], "--augment stretch=2: expected 2 numbers with commas between them, such as 1.6,1.8"),
    (["shift=0", "shift=1"], "--augment shift=1: shift is given twice"),
    (["scale=2"], "--augment scale=2: scale is 2.0, expected at least 0 and below 1"),
    (["shift=nan"], "--augment shift=nan: expected a finite number"),
])
def test_what_cannot_be_set(texts, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        changed(AugmentConfig(), texts, "--augment")


def test_the_docs_list_every_setting():
    section = DOCS.read_text().partition("What else happens to a sample")[2].partition("\n\n**")[0]
    named = set(re.findall(r"`(\w+)`", section))
    assert named == {field.name for kind in (AugmentConfig, BoxAugment) for field in fields(kind)}


def test_a_run_is_trained_and_described_with_them(tmp_path, capsys):
    path = tiny_coco(tmp_path, images=2, people=1)
    how = ["--data", str(path), "--crops", str(tmp_path / "crops"), "--steps", "1", "--batch", "2", "--device", "cpu"]
    assert main(["train", "u-300m", "--input-size", "64", "64", "--out", str(tmp_path / "pose"), *how, "--no-mirror",
                 "--augment", "shift=0.2", "jpeg_chance=1"]) == 0
    told = json.loads((tmp_path / "pose/config.json").read_text())["pose"]["augment"]
    assert (told["shift"], told["jpeg_chance"], told["flip_chance"]) == (0.2, 1.0, 0.0)
    assert main(["train", "person-tiny", "--out", str(tmp_path / "boxes"), *how, "--augment", "mosaic_chance=2"]) == 1
    assert "--augment mosaic_chance=2: mosaic_chance is 2.0" in capsys.readouterr().err
