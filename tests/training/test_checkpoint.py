"""Checkpoints are whole or do not count (design faults F3-F5, F12; M1, M2; tests/faults kills real trainings)."""

import errno
import json
import os
import pickle
import stat
from contextlib import suppress

import pytest
import torch
from torch import nn

from stagepose import files
from stagepose.errors import CheckpointError, ConfigError, StagePoseError
from stagepose.evaluation.kept import Judged
from stagepose.training import runfolder
from stagepose.training.checkpoint import fill, fill_matching, load_step, load_weights, newest_checkpoint, packed
from stagepose.training.runfolder import Run


def saved_run(folder, steps=(1, 2)):
    run = Run(folder, {"a": 1})
    for step in steps:
        run.save(step, {"model": {"w": torch.full((4,), float(step))}, "ema": {"w": torch.zeros(4)},
                        "optimizer": {"0.exp_avg": torch.ones(4)}}, {"step": step})
    run.close()
    return folder


def step_file(folder, step, name):
    return folder / "steps" / f"{step:09d}" / name


def test_a_step_comes_back(tmp_path):
    found = newest_checkpoint(saved_run(tmp_path / "run"))
    assert found.step == 2 and found.state == {"step": 2}
    assert torch.equal(found.parts["model"]["w"], torch.full((4,), 2.0))


def test_only_the_newest_and_the_best_stay(tmp_path):
    with Run(tmp_path / "run", {}) as run:
        for step in range(1, 6):
            run.save(step, {"model": {"w": torch.zeros(1)}}, {})
            run.judged(step, Judged({"ap": {2: 0.5}.get(step, 0.1)}))
            assert run.is_judged(step) and not run.is_judged(step - 1)
    assert sorted(p.name for p in (tmp_path / "run/steps").iterdir()) == ["000000002", "000000004", "000000005"]


def test_a_run_stands_for_its_best_step_and_a_finished_stage_for_what_came_of_it(tmp_path):
    """What export takes, --init begins with."""
    with Run(tmp_path / "run", {}) as run:
        for step, ap in enumerate((0.1, 0.5, 0.2), start=1):
            run.save(step, {"ema": {"w": torch.full((1,), float(step))}}, {})
            if step == 3:
                assert load_weights(tmp_path / "run")["w"] == 2  # of those that are judged
            run.judged(step, Judged({"ap": ap}))
    assert load_weights(tmp_path / "run")["w"] == 2
    (tmp_path / "run/stages/1").mkdir(parents=True)
    (tmp_path / "run/steps").rename(tmp_path / "run/stages/1/steps")
    assert load_weights(tmp_path / "run/stages/1")["w"] == 3
    (tmp_path / "run/stages/1.safetensors").write_bytes(packed({"w": torch.full((1,), 4.0)}))
    assert load_weights(tmp_path / "run/stages/1")["w"] == load_weights(tmp_path / "run")["w"] == 4


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json",
                                  "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_damage_is_noticed_and_the_step_before_used(tmp_path, caplog, name, damage):
    folder = saved_run(tmp_path / "run")
    path = step_file(folder, 2, name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    {"flip": lambda: path.write_bytes(data), "truncate": lambda: path.write_bytes(data[: len(data) // 2]),
     "empty": lambda: path.write_bytes(b""), "remove": path.unlink}[damage]()
    assert newest_checkpoint(folder).step == 1
    assert "000000002" in caplog.text


def test_a_damaged_step_is_written_again(tmp_path):
    folder = saved_run(tmp_path / "run")
    step_file(folder, 2, "model.safetensors").write_bytes(b"x")
    assert newest_checkpoint(folder).step == 1
    assert newest_checkpoint(saved_run(folder, steps=(2,))).step == 2


def test_no_bit_of_a_manifest_flips_unnoticed(tmp_path):
    folder = saved_run(tmp_path / "run").joinpath("steps/000000002")
    manifest = folder / "MANIFEST.json"
    data = manifest.read_bytes()
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        manifest.write_bytes(flipped)
        with suppress(CheckpointError):
            found = load_step(folder)
            assert found.step == 2 and set(found.parts) == {"model", "ema", "optimizer"} and found.state == {"step": 2}
        assert newest_checkpoint(folder.parent.parent).step in (1, 2)  # never taken for another version's


def test_a_manifest_of_before_it_had_its_own_digest_is_read(tmp_path):
    folder = saved_run(tmp_path / "run").joinpath("steps/000000002")
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    del manifest["manifest_sha256"]
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    assert load_step(folder).step == 2


def test_nothing_whole_left_is_an_error(tmp_path):
    folder = saved_run(tmp_path / "run")
    for step in (1, 2):
        step_file(folder, step, "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints is whole"):
        newest_checkpoint(folder)


def test_an_unfinished_step_is_ignored_and_cleaned_up(tmp_path):
    folder = saved_run(tmp_path / "run")
    (folder / "steps/000000003.tmp").mkdir()
    (folder / "steps/000000003.tmp/model.safetensors").write_bytes(b"half")
    assert newest_checkpoint(folder).step == 2
    Run(folder, {"a": 1}).close()
    assert not (folder / "steps/000000003.tmp").exists()


def test_what_else_lies_among_the_steps_is_left_alone(tmp_path, caplog):
    folder = tmp_path / "run"
    strange = [folder / "steps" / name for name in ("my backup", "my steps.tmp", "00000000a")]
    for path in strange:
        path.mkdir(parents=True)
    saved_run(folder, steps=range(1, 6))
    assert newest_checkpoint(folder).step == 5 and not caplog.text
    assert sorted(path.name for path in folder.glob("steps/*")) == sorted(
        ["000000004", "000000005", *(path.name for path in strange)])


def test_a_full_disk_is_said_plainly(tmp_path, monkeypatch):
    folder = saved_run(tmp_path / "run")
    run = Run(folder, {"a": 1})

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StagePoseError, match="disk full"):
        run.save(3, {"model": {"w": torch.zeros(4)}}, {})
    monkeypatch.undo()
    run.close()
    assert newest_checkpoint(folder).step == 2 and not list(folder.glob("steps/*3*"))


def test_two_trainings_in_one_folder(tmp_path):
    first = Run(tmp_path / "run", {})
    with pytest.raises(CheckpointError, match="another training"):
        Run(tmp_path / "run", {})
    first.close()
    Run(tmp_path / "run", {}).close()


def test_a_disk_without_locks_is_no_other_training(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(runfolder.fcntl, "flock", refuse)
    with pytest.raises(CheckpointError, match="cannot lock the run folder: No locks available; choose a folder on an"):
        Run(tmp_path / "run", {})


def test_changed_settings_are_named(tmp_path):
    with Run(tmp_path / "run", {"lr": 1e-3, "size": (1, 2)}) as run:
        run.save(1, {"model": {"a": torch.zeros(1)}}, {})
    Run(tmp_path / "run", {"lr": 1e-3, "size": (1, 2)}).close()
    with pytest.raises(ConfigError, match=r"lr: 0\.001 -> 0\.002"):
        Run(tmp_path / "run", {"lr": 2e-3, "size": (1, 2)})


def test_a_damaged_config_is_named(tmp_path):
    Run(tmp_path / "run", {"lr": 1}).close()
    (tmp_path / "run/config.json").write_text('{"lr": ')
    with pytest.raises(CheckpointError, match=r"config\.json: not readable"):
        Run(tmp_path / "run", {"lr": 1})


def test_log_lines_are_whole_and_valid_json(tmp_path):
    with Run(tmp_path / "run", {}) as run:
        run.append_log({"step": 1, "gradient_norm": float("nan")})
        run.append_log({"step": 2})
    text = (tmp_path / "run/log.jsonl").read_text()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [1, 2]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error_before_the_first_step(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(CheckpointError, match="cannot write"):
        Run(tmp_path / "run", {})
    tmp_path.chmod(stat.S_IRWXU)


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(CheckpointError, match="run"):
        Run(tmp_path / "run", {})


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_weights_that_are_not_there_say_what_could_be(tmp_path):
    with pytest.raises(CheckpointError, match=r"pose-smal: no such run folder or file, .*ships \(.*pose-small"):
        load_weights("pose-smal")


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "pwned")))
    with pytest.raises(CheckpointError, match="never from a pickle"):
        load_weights(path)
    disguised = path.rename(tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="not a valid safetensors"):
        load_weights(disguised)
    assert not (tmp_path / "pwned").exists()


def crafted(header, body=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize("data", [
    (10**9).to_bytes(8, "little") + b"{}",
    crafted({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
             "v": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, b"\0" * 12),
    crafted({"w": {"dtype": "F32", "shape": [5], "data_offsets": [0, 8]}}, b"\0" * 8),
    b"",
], ids=["huge header", "overlap", "wrong shape", "empty"])
def test_crafted_safetensors_are_refused(tmp_path, data):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        load_weights(path)


def test_weights_of_another_kind_are_named():
    model = nn.Linear(2, 3)
    good = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="weight has shape"):
        fill(model, {**good, "weight": torch.zeros(9)}, "x")
    with pytest.raises(CheckpointError, match="bias holds NaN"):
        fill(model, {**good, "bias": torch.full((3,), torch.nan)}, "x")
    with pytest.raises(CheckpointError, match="1 tensors missing"):
        fill(model, {"weight": good["weight"]}, "x")
    with pytest.raises(CheckpointError, match="no tensor fits"):
        fill_matching(model, {"other": torch.zeros(1)}, "x")
    with pytest.raises(CheckpointError, match="weight holds NaN"):
        fill_matching(model, {"weight": torch.full((3, 2), torch.nan)}, "x")
    assert "1 of 2 tensors taken" in fill_matching(model, {"weight": good["weight"]}, "x")
