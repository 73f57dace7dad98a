"""Run folders that are killed in the middle of a write, full, read-only, gone, taken or from another version."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from waiting import until

from faults.processes import as_if_nothing_had_happened, begin, file_system, finish, run, start
from stagepose.errors import CheckpointError
from stagepose.training.checkpoint import FORMAT, load_weights, newest_checkpoint
from stagepose.training.runfolder import Run

MEGABYTE = {"w": torch.zeros(250_000)}


def steps_of(folder):
    return sorted(int(p.name) for p in folder.glob("steps/?????????"))


def one_line(text):
    [line] = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in text
    return line


# --- killed


def test_kill_9_at_random_moments_changes_nothing(tmp_path):
    """F1; the training saves after every fifth step, so some moments are in the middle of a write."""
    out, rng = tmp_path / "run", np.random.default_rng(0)
    for _ in range(3):
        process = begin(out, 1)
        time.sleep(float(rng.uniform(0, 0.3)))
        process.kill()
        process.communicate()
    run(out)
    assert as_if_nothing_had_happened(out)


def test_killed_between_data_and_manifest(tmp_path):
    """F2."""
    out, ready = tmp_path / "run", tmp_path / "ready"
    process = start(out, pause_before="MANIFEST.json", ready=ready)
    until(ready.exists, process)
    assert {f.name for f in (out / "steps/000000005.tmp").iterdir()} == {
        "model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"}
    process.kill()
    process.communicate()
    assert newest_checkpoint(out) is None
    run(out)
    assert not list(out.glob("steps/*.tmp")) and as_if_nothing_had_happened(out)


def test_the_second_ctrl_c_ends_it_at_once(tmp_path):
    """F8: in the middle of a step that takes long; what was saved before stays as it was."""
    out, still = tmp_path / "run", tmp_path / "still"
    process = start(out, still_at=6, said=still)
    until(still.exists, process)
    process.send_signal(signal.SIGINT)
    until(lambda: not still.exists(), process)  # two at a time would be one
    process.send_signal(signal.SIGINT)
    code, text = finish(process)
    assert code == -signal.SIGINT and steps_of(out) == [5] and newest_checkpoint(out).step == 5, text
    run(out)
    assert as_if_nothing_had_happened(out)


# --- folders


def test_a_full_disk_keeps_the_older_checkpoints(tmp_path):
    """F5, on a disk of 8 MB: two checkpoints of three find room, with what else a run folder holds."""
    with file_system(tmp_path / "disk") as disk:
        taken = Run(disk / "run", {})
        parts = {"model": MEGABYTE, "ema": MEGABYTE, "optimizer": MEGABYTE}
        taken.save(1, parts, {})
        taken.save(2, parts, {})
        with pytest.raises(CheckpointError, match=r"disk full, 3\.0 MB needed, [0-2]\.. MB free; .* are untouched"):
            taken.save(3, parts, {})
        (disk / "somebody else's").write_bytes(bytes(shutil.disk_usage(disk).free - 20_000))
        with pytest.raises(CheckpointError, match="cannot write to the run folder any more: No space left"):
            for step in range(100):
                taken.append_log({"step": step, "samples": "x" * 1000})
        taken.close()
        assert steps_of(disk / "run") == [1, 2] and newest_checkpoint(disk / "run").step == 2
        assert not list(disk.glob("run/steps/*.tmp"))


def test_a_disk_that_fills_up_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """F5: what was free when it was asked is so no more."""
    with file_system(tmp_path / "disk") as disk:
        taken = Run(disk / "run", {})
        taken.save(1, {"model": MEGABYTE}, {})
        usage = shutil.disk_usage(disk)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        (disk / "somebody else's").write_bytes(bytes(usage.free - 1_500_000))
        with pytest.raises(Exception, match=r"disk full, 1\.0 MB needed"):
            taken.save(2, {"model": MEGABYTE, "ema": MEGABYTE}, {})
        taken.close()
        assert newest_checkpoint(disk / "run").step == 1 and not list(disk.glob("run/steps/*2*"))


def test_a_read_only_folder_is_an_error_before_the_first_step(tmp_path):
    """F6, for whoever may write anywhere else, too."""
    with file_system(tmp_path / "disk", "size=1m,ro") as disk:
        code, text = finish(start(disk / "run", seen=tmp_path / "seen"))
        assert code == 1 and "cannot write the run folder: Read-only file system" in one_line(text)
        assert not (tmp_path / "seen").exists()


def test_a_file_in_place_of_the_folder_is_an_error_before_the_first_step(tmp_path):
    """F6."""
    (tmp_path / "run").write_text("")
    code, text = finish(start(tmp_path / "run"))
    assert code == 1 and f"{tmp_path / 'run'}: cannot write the run folder" in one_line(text)
    assert not (tmp_path / "run.seen").exists()


def test_a_folder_that_vanishes_ends_the_training_in_plain_words(tmp_path):
    """F6."""
    out = tmp_path / "run"
    process = begin(out, 1, samples=8000)
    while out.exists():
        shutil.rmtree(out, ignore_errors=True)  # the training may be about to write
    code, text = finish(process)
    assert code == 1 and f"{out}: cannot write to the run folder any more" in one_line(text)


def test_two_trainings_in_one_folder(tmp_path):
    """F16."""
    out = tmp_path / "run"
    first = begin(out, 1, samples=8000)
    code, text = finish(start(out))
    assert code == 1 and "another training runs in this folder" in one_line(text)
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGTERM)
    assert finish(first)[0] == 143


# --- versions


@pytest.mark.parametrize("other", [0, 2, None, "1"])
def test_a_checkpoint_of_another_format_is_refused_by_name(tmp_path, other):
    """F17; an older step of this format does not take its place, which would undo training without a word."""
    with Run(tmp_path / "run", {}) as taken:
        for step in (1, 2):
            taken.save(step, {"ema": MEGABYTE}, {})
    path = tmp_path / "run/steps/000000002/MANIFEST.json"
    path.write_text(json.dumps({"format": other, "number": 2, "files": ["whatever it had"]}))
    message = f"000000002: a checkpoint of format {other!r}, this version reads {FORMAT}; go on with the version"
    with pytest.raises(CheckpointError) as caught:
        newest_checkpoint(tmp_path / "run")
    assert message in str(caught.value)
    with pytest.raises(CheckpointError) as caught:
        load_weights(tmp_path / "run")
    assert message in str(caught.value)


def test_a_manifest_without_a_format_is_damaged(tmp_path, caplog):
    with Run(tmp_path / "run", {}) as taken:
        for step in (1, 2):
            taken.save(step, {"ema": MEGABYTE}, {})
    (tmp_path / "run/steps/000000002/MANIFEST.json").write_text("[1]")
    assert newest_checkpoint(tmp_path / "run").step == 1 and "no readable MANIFEST.json" in caplog.text
