"""Trainings that are killed, stopped, shared out or starved (design faults F7, F9, F10, F11, F14, F15).

Everything here happens to real processes; ``ranks.py`` beside this is what they run.
"""

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
from tiny import tiny_coco
from waiting import until

from faults.processes import as_if_nothing_had_happened, begin, finish, launch, parts, run, start
from stagepose.errors import ConfigError, TrainingError
from stagepose.training import distributed
from stagepose.training.checkpoint import newest_checkpoint
from stagepose.training.machine import plain_errors


def shown(out):
    """What every rank showed, in the order of the steps: {rank: [keys of each step]}."""
    lines = [json.loads(line) for line in Path(f"{out}.seen").read_text().splitlines()]
    return {rank: [line["keys"] for line in lines if line["rank"] == rank] for rank in {line["rank"] for line in lines}}


def test_two_ranks_show_the_samples_of_one_and_learn_the_same(tmp_path):
    """F11; the share of each step is disjoint, together it is the step of a single process."""
    run(tmp_path / "one")
    run(tmp_path / "two", ranks=2)
    one, two = shown(tmp_path / "one"), shown(tmp_path / "two")
    assert [a + b for a, b in zip(two[0], two[1], strict=True)] == one[0] and len(one[0]) == 40
    weights = {name: parts(tmp_path / name)["ema"] for name in ("one", "two")}
    with torch.no_grad():
        for name, value in weights["one"].items():  # batch norm sees half a batch: alike, not equal
            assert torch.allclose(value.float(), weights["two"][name].float(), atol=0.6), name


def test_accumulation_shows_the_same_samples_in_parts(tmp_path):
    run(tmp_path / "parts", accumulate=2)
    keys = [tuple(key) for part in shown(tmp_path / "parts")[0] for key in part]
    assert keys == [divmod(i, 50) for i in range(320)]
    with pytest.raises(ConfigError, match="use 6"):
        distributed.refuse_uneven(5, 3)


def test_a_killed_rank_ends_the_job_and_the_relaunch_goes_on(tmp_path):
    """F9."""
    out = tmp_path / "run"
    process = begin(out, 2, ranks=2, ready=tmp_path / "pid")
    os.kill(int(Path(f"{tmp_path}/pid-1").read_text()), signal.SIGKILL)
    code, _ = finish(process)
    assert code != 0
    begun = newest_checkpoint(out).step
    Path(f"{out}.seen").unlink()
    run(out, ranks=2)
    again = shown(out)
    assert len(again[0]) == len(again[1]) == 40 - begun  # both went on from the same step
    assert as_if_nothing_had_happened(out, ranks=2)


def test_ranks_that_see_other_folders_follow_the_first(tmp_path):
    """F10: a rank without the newest checkpoint, or any, gets the first one's."""
    out = tmp_path / "run"
    process = begin(out, 2, ranks=2)
    os.killpg(process.pid, signal.SIGTERM)
    finish(process)
    run(out, ranks=2, apart=1)
    assert not Path(f"{out}-of-rank-1").exists()
    assert as_if_nothing_had_happened(out, ranks=2)


def test_ranks_that_are_stopped_save_and_leave_nothing_behind(tmp_path):
    """F7 with two ranks: a wrapped module that outlives the ranks' group aborts the exit now and then."""
    out, ranks = tmp_path / "run", []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for rank in range(2):
        mine = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks.append(start(out, env={k: str(v) for k, v in mine.items()}, pause=0.02, samples=4000,
                           left=tmp_path / "left"))
    until(lambda: list(out.glob("steps/?????????")), ranks[0])
    ranks[0].send_signal(signal.SIGTERM)  # the other one hears of it in the same step
    assert [finish(rank)[0] for rank in ranks] == [143, 143]
    assert [(tmp_path / f"left-{rank}").read_text() for rank in range(2)] == ["0", "0"]
    assert newest_checkpoint(out).step < 500


def test_two_ranks_judge_as_one_does(tmp_path):
    """D8: five pictures, so that one rank has more than the other."""
    path = tiny_coco(tmp_path, images=5)
    found = []
    for ranks in (1, 2):
        code, text = finish(launch("judge.py", path, tmp_path / f"{ranks}.json", ranks=ranks))
        assert code == 0, text
        found.append(json.loads((tmp_path / f"{ranks}.json").read_text()))
    assert [f.pop("world") for f in found] == [1, 2] and 0.05 < found[0]["ap"] < 1
    assert found[1] == pytest.approx(found[0], abs=1e-12)


def test_sigterm_to_the_group_with_two_workers_saves(tmp_path):
    """F7: the workers outlive the signal, or the emergency save would be lost."""
    out = tmp_path / "run"
    process = begin(out, 1, workers=2)
    os.killpg(process.pid, signal.SIGTERM)
    code, text = finish(process)
    assert code == 143, text
    assert newest_checkpoint(out).step < 40
    run(out, workers=1)  # F11: another number of workers
    assert as_if_nothing_had_happened(out)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_a_killed_worker_is_named(tmp_path, steps):
    """F14; later it has announced a batch that nobody can fetch from it any more."""
    out, pids = tmp_path / "run", tmp_path / "pids"
    process = start(out, workers=2, pause=0.02, pids=pids, samples=4000)
    until(lambda: pids.is_dir() and len(list(pids.iterdir())) == 2, process)
    until(lambda: not steps or (Path(f"{out}.seen").exists() and len(shown(out).get(0, ())) > steps), process)
    os.kill(int(next(pids.iterdir()).name), signal.SIGKILL)
    code, text = finish(process)
    assert code == 1 and "a data worker died" in text and "fewer --workers (now 2" in text
    assert len(text.splitlines()) == 1


def test_an_error_within_a_worker_is_not_its_death():
    with pytest.raises(RuntimeError, match="Caught"), plain_errors(64, 1, 2):
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.")


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
])
def test_out_of_memory_says_which_batch_to_try(error):
    """F15."""
    advice = r"32 pictures at once; try --batch 32, .* --accumulate 4"
    with pytest.raises(TrainingError, match=advice), plain_errors(64, 2, 0):
        raise error
    with pytest.raises(TrainingError, match="smaller --input-size or network"), plain_errors(2, 2, 0):
        raise error
    with pytest.raises(RuntimeError, match="something else"), plain_errors(64, 2, 0):
        raise RuntimeError("something else")
