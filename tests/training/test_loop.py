"""The loop: what it learns, what it survives (design faults F12, F13), and that a resume is exact."""

import json
import logging
import os
import pty
import signal
import sys
import termios
import threading
from contextlib import closing, suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_coco
from torch import nn

from stagepose.cli import main
from stagepose.commands.training_options import ScheduleOptions
from stagepose.errors import ConfigError, TrainingError
from stagepose.evaluation.kept import UNJUDGED, Judged, KeypointResults
from stagepose.runfiles import read_object
from stagepose.training import journal, loop, optim
from stagepose.training.checkpoint import newest_checkpoint
from stagepose.training.journal import Journal
from stagepose.training.loop import TrainConfig, train
from stagepose.training.machine import Machine
from stagepose.training.optim import Ema, Muon, lr_factor, make_optimizer, orthogonal, set_lr
from stagepose.training.randomness import uniforms
from stagepose.training.runfolder import Run


class LineTask:
    """Learn y = 2 x - 1 from samples that depend on (seed, epoch, index) alone; ``poison`` makes some losses NaN."""

    samples_per_epoch = 50
    seed = 0

    def __init__(self, poison=(), poisoned_input=()):
        torch.manual_seed(0)
        self.model = self.network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1), nn.Linear(1, 1))
        self.reader = self
        self.poison, self.poisoned_input, self.calls = set(poison), set(poisoned_input), 0
        self.seen = []

    def order(self, epoch):
        return np.arange(self.samples_per_epoch)

    def read(self, samples):
        self.seen += samples
        return torch.as_tensor(uniforms(0, samples, 1), dtype=torch.float32)

    def prepare(self, read):
        return read

    def overlays(self, model):
        return None

    def idle(self):
        return []

    def names(self, samples):
        return [f"sample {epoch}.{index}" for epoch, index in samples]

    def loss(self, model, batch):
        self.calls += 1
        inputs = batch * float("inf") if self.calls in self.poisoned_input else batch
        error = (model(inputs) - (2 * batch - 1)).square().mean()
        return {"line": error * float("nan") if self.calls in self.poison else error}

    def evaluate(self, model):
        x = torch.linspace(0, 1, 11)[:, None]
        return Judged({"ap": -float((model.eval()(x) - (2 * x - 1)).square().mean())})

    def describe(self):
        return {"kind": "line"}


CONFIG = TrainConfig(batch=10, samples=800, warmup=20, lr=0.02, bf16=False, log_every=5, save_every=7)


def weights(folder):
    return newest_checkpoint(folder).parts["ema"]


def test_it_learns_and_leaves_a_log(tmp_path):
    task = LineTask()
    train(task, CONFIG, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    records = [r for r in lines if "line" in r]
    assert records[-1]["line"] < 0.1 * records[0]["line"]
    assert [r["step"] for r in records] == list(range(5, 81, 5))
    assert lines[-1]["step"] == 80 and "ap" in lines[-1]
    assert len(set(task.seen)) == len(task.seen) == 800 and task.seen[50] == (1, 0)
    assert newest_checkpoint(tmp_path / "run").step == 80


def test_the_rate_follows_the_samples_that_were_shown(tmp_path):
    train(LineTask(), replace(CONFIG, samples=200, log_every=1), tmp_path / "run")
    lines = map(json.loads, (tmp_path / "run/log.jsonl").read_text().splitlines())
    rates = [line["lr"] for line in lines if "lr" in line]
    assert rates == pytest.approx([CONFIG.lr * lr_factor(shown, 200, 20) for shown in range(0, 200, 10)], rel=1e-3)


def test_a_task_of_another_seed_than_the_schedules_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="seed is 3 in the schedule, but the task draws its samples by 0"):
        train(LineTask(), replace(CONFIG, seed=3), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_it_learns_in_another_thread_as_in_the_main_one(tmp_path):
    handled, ended = signal.getsignal(signal.SIGTERM), []

    class Broken(LineTask):
        def loss(self, model, batch):
            raise MemoryError

    def learn():
        train(LineTask(), replace(CONFIG, samples=30), tmp_path / "other")
        with pytest.raises(TrainingError, match="out of memory"):  # and says what it dies of
            train(Broken(), CONFIG, tmp_path / "broken")
        ended.append(True)

    thread = threading.Thread(target=learn)
    thread.start()
    thread.join()
    assert ended and signal.getsignal(signal.SIGTERM) is handled
    train(LineTask(), replace(CONFIG, samples=30), tmp_path / "main")
    for name, tensor in weights(tmp_path / "main").items():
        assert torch.equal(tensor, weights(tmp_path / "other")[name])


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_compiler_that_dies_leaves_one_line_and_of_ctrl_c_none(tmp_path, interrupted):
    from torch._inductor.exc import CppCompileError

    class Compiling(LineTask):
        def loss(self, model, batch):
            if interrupted:
                os.kill(os.getpid(), signal.SIGINT)  # as the compiler's process gets it too
            raise CppCompileError(["g++"], "killed")

    ended, told = (SystemExit, "^130$") if interrupted else (TrainingError, "^torch.compile .* --compile False$")
    with pytest.raises(ended, match=told):
        train(Compiling(), CONFIG, tmp_path / "run")


def test_a_resume_is_bit_equal(tmp_path):
    train(LineTask(), CONFIG, tmp_path / "whole")

    class Stopped(LineTask):
        def loss(self, model, batch):
            if self.calls == 33:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(model, batch)

    with pytest.raises(SystemExit) as stop:
        train(Stopped(), CONFIG, tmp_path / "parts")
    assert stop.value.code == 143 and newest_checkpoint(tmp_path / "parts").step == 34
    train(LineTask(), CONFIG, tmp_path / "parts")
    for part in ("model", "ema", "optimizer"):
        a, b = (newest_checkpoint(tmp_path / r).parts[part] for r in ("whole", "parts"))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("evaluate_every", [0, 80])
def test_a_stop_during_the_last_validation_is_a_stop(tmp_path, evaluate_every):
    class Stopped(LineTask):
        def evaluate(self, model):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().evaluate(model)

    config = replace(CONFIG, evaluate_every=evaluate_every)
    with pytest.raises(SystemExit) as stop:
        train(Stopped(), config, tmp_path / "run")
    assert stop.value.code == 143 and read_object(tmp_path / "run/judged.json")["step"] == 80
    task = LineTask()
    train(task, config, tmp_path / "run")
    assert task.calls == 0


@pytest.mark.parametrize("at", ["loss", "evaluate"])
def test_a_stop_loses_no_validation(tmp_path, at):
    """Neither one that is due at the step where the stop is heeded, nor one that dies: the best step stays the best."""
    class Stopped(LineTask):
        def loss(self, model, batch):
            if at == "loss" and self.calls == 19:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(model, batch)

        def evaluate(self, model):
            if at == "evaluate":
                raise KeyboardInterrupt
            return super().evaluate(model)

    config = replace(CONFIG, evaluate_every=20)
    train(LineTask(), config, tmp_path / "whole")
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        train(Stopped(), config, tmp_path / "parts")
    assert newest_checkpoint(tmp_path / "parts").step == 20
    train(LineTask(), config, tmp_path / "parts")
    whole, parts = ([record for line in (tmp_path / run / "log.jsonl").read_text().splitlines()
                     if "ap" in (record := json.loads(line))] for run in ("whole", "parts"))
    assert parts == whole and [record["step"] for record in whole] == [20, 40, 60, 80]


def test_the_second_ctrl_c_exits_at_once(tmp_path):
    class Impatient(LineTask):
        def loss(self, model, batch):
            if self.calls == 20:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            return super().loss(model, batch)

    with pytest.raises(KeyboardInterrupt):
        train(Impatient(), CONFIG, tmp_path / "run")
    assert newest_checkpoint(tmp_path / "run").step == 14
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class PictureTask(LineTask):
    """A convolutional network, whose weights and moments are channels-last."""

    def __init__(self):
        super().__init__()
        self.model = self.network = nn.Sequential(nn.Conv2d(4, 40, 3), nn.BatchNorm2d(40), nn.Conv2d(40, 1, 3))

    def read(self, samples):
        return torch.as_tensor(uniforms(0, samples, 4 * 64), dtype=torch.float32).reshape(-1, 4, 8, 8)

    def loss(self, model, batch):
        self.calls += 1
        if self.calls == 5 and hasattr(self, "stop"):
            os.kill(os.getpid(), signal.SIGTERM)
        return {"sum": (model(batch).mean((1, 2, 3)) - batch.mean((1, 2, 3))).square().mean()}

    def evaluate(self, model):
        return UNJUDGED


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resume_of_a_picture_network_is_bit_equal(tmp_path, optimizer):
    config = TrainConfig(batch=10, samples=100, warmup=20, optimizer=optimizer, lr=0.02, save_every=3)
    train(PictureTask(), config, tmp_path / "whole")
    stopped = PictureTask()
    stopped.stop = True
    with pytest.raises(SystemExit):
        train(stopped, config, tmp_path / "parts")
    train(PictureTask(), config, tmp_path / "parts")
    for part in ("model", "ema", "optimizer"):
        a, b = (newest_checkpoint(tmp_path / r).parts[part] for r in ("whole", "parts"))
        assert all(torch.equal(a[k], b[k]) for k in a)
        assert part != "optimizer" or any(k.endswith(".momentum") for k in a) == (optimizer == "muon")


@pytest.mark.parametrize("kinds", [("adamw", "muon"), ("muon", "adamw")])
def test_going_on_with_the_other_optimizer_begins_its_moments_anew(tmp_path, caplog, kinds):
    config = TrainConfig(batch=10, samples=100, warmup=20, lr=0.02, save_every=3, optimizer=kinds[0])
    stopped = PictureTask()
    stopped.stop = True
    with pytest.raises(SystemExit):
        train(stopped, config, tmp_path)
    with pytest.raises(ConfigError, match="optimizer"):
        train(PictureTask(), replace(config, optimizer=kinds[1]), tmp_path)
    train(PictureTask(), replace(config, optimizer=kinds[1]), tmp_path, accept_changes=True)
    assert "was made by another optimizer, or with other parameters frozen; its moments are left out" in caplog.text
    moments = newest_checkpoint(tmp_path).parts["optimizer"]
    assert any(name.endswith(".momentum") for name in moments) == (kinds[1] == "muon")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("frozen", [(True, False), (False, True)])
def test_going_on_with_other_frozen_parameters_begins_the_moments_anew(tmp_path, caplog, frozen, optimizer):
    """Their moments would be of other shapes, which fused AdamW reads past the end of."""
    def task(frozen):
        made = PictureTask()
        made.model[0].requires_grad_(not frozen)
        return made

    config = TrainConfig(batch=10, samples=100, warmup=20, lr=0.02, save_every=3, optimizer=optimizer)
    stopped = task(frozen[0])
    stopped.stop = True
    with pytest.raises(SystemExit):
        train(stopped, config, tmp_path)
    train(task(frozen[1]), config, tmp_path)
    assert "with other parameters frozen; its moments are left out" in caplog.text
    moments = newest_checkpoint(tmp_path).parts["optimizer"]
    trained = [p for p in task(frozen[1]).model.parameters() if p.requires_grad]
    assert len({name.split(".")[0] for name in moments}) == len(trained)


def test_a_failing_validation_loses_no_step(tmp_path):
    class Unjudgeable(LineTask):
        def evaluate(self, model):
            raise ValueError("no pictures")

    with pytest.raises(ValueError, match="no pictures"):
        train(Unjudgeable(), CONFIG, tmp_path / "run")
    assert newest_checkpoint(tmp_path / "run").step == 80
    task = LineTask()
    train(task, CONFIG, tmp_path / "run")
    assert task.calls == 0 and json.loads((tmp_path / "run/best.json").read_text())["step"] == 80


def test_a_bad_step_is_skipped_and_many_stop_the_run(tmp_path):
    train(LineTask(poison=[5, 6], poisoned_input=[20]), CONFIG, tmp_path / "run")
    assert all(torch.isfinite(t).all() for t in weights(tmp_path / "run").values() if t.is_floating_point())
    skipped = [r for r in map(json.loads, (tmp_path / "run/log.jsonl").read_text().splitlines()) if "skipped" in r]
    assert [r["step"] for r in skipped] == [5, 6, 20]
    with pytest.raises(TrainingError, match="10 steps in a row"):
        train(LineTask(poisoned_input=range(30, 80)), CONFIG, tmp_path / "bad")
    assert all(torch.isfinite(t).all() for t in weights(tmp_path / "bad").values() if t.is_floating_point())


class Planned(LineTask):
    """Validated as planned: an AP a time."""

    def __init__(self, *aps):
        super().__init__()
        self.aps = list(aps)

    def evaluate(self, model):
        return Judged({"ap": self.aps.pop(0)})


def test_patience_ends_a_training_whose_ap_no_longer_rises(tmp_path, caplog):
    caplog.set_level("INFO", "stagepose")
    config = replace(CONFIG, evaluate_every=10, patience=3)
    train(Planned(0.1, 0.3, 0.2, 0.3, 0.25), config, tmp_path / "run")
    told = (f"{tmp_path / 'run'}: stopped early at step 50: the AP has not risen in 3 validations; step 20 is the "
            "best, with AP 0.3000. A larger --patience, or none, goes on")
    assert newest_checkpoint(tmp_path / "run").step == 50 and caplog.messages[-1] == told
    assert json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[-1]) == {
        "step": 50, "stopped early": "the AP has not risen in 3 validations", "best step": 20, "best ap": 0.3}
    again = Planned()
    train(again, config, tmp_path / "run")
    assert again.calls == 0 and caplog.messages[-1] == told
    train(Planned(0.3), replace(config, patience=4), tmp_path / "run")
    assert newest_checkpoint(tmp_path / "run").step == 60
    assert "step 60: the AP has not risen in 4 validations" in caplog.messages[-1]
    train(Planned(0.3, 0.3), replace(config, patience=0), tmp_path / "run")
    train(LineTask(), replace(config, patience=0), tmp_path / "whole")
    assert all(torch.equal(tensor, weights(tmp_path / "whole")[name])
               for name, tensor in weights(tmp_path / "run").items())


def test_patience_that_ends_with_the_schedule_has_not_ended_it(tmp_path, caplog):
    caplog.set_level("INFO", "stagepose")
    config = replace(CONFIG, samples=400, evaluate_every=10, patience=3)
    for task in Planned(0.4, 0.1, 0.1, 0.1), Planned():
        train(task, config, tmp_path / "run")
        assert "stopped early" not in caplog.text and "stopped early" not in (tmp_path / "run/log.jsonl").read_text()
    assert newest_checkpoint(tmp_path / "run").step == 40


def test_patience_runs_out_at_a_validation_that_a_stop_came_before(tmp_path):
    class Killed(Planned):
        def evaluate(self, model):
            if not self.aps:
                raise KeyboardInterrupt
            return super().evaluate(model)

    config = replace(CONFIG, evaluate_every=10, patience=2)
    with pytest.raises(KeyboardInterrupt):
        train(Killed(0.4, 0.1), config, tmp_path / "run")
    task = Planned(0.2)
    train(task, config, tmp_path / "run")
    assert task.calls == 0 and newest_checkpoint(tmp_path / "run").step == 30


def test_patience_wants_validations(tmp_path, capsys):
    path = tiny_coco(tmp_path, images=1, people=1)
    command = ["train", "u-300m", "--data", str(path), "--out", str(tmp_path / "run"), "--patience", "3"]
    for more, said in ((["--evaluate-every", "9"], "--patience 3 is for a training that is judged; give --val FILE"),
                       (["--val", str(path)], "patience is 3 and evaluate_every 0: patience is a number of")):
        assert main([*command, *more]) == 1
        assert said in capsys.readouterr().err
    assert TrainConfig(samples=8, evaluate_every=1, patience=3) and not (tmp_path / "run").exists()


def test_bad_steps_with_good_ones_between_them_are_none_in_a_row(tmp_path):
    train(LineTask(poison=range(2, 11, 2)), replace(CONFIG, samples=100, max_bad_steps=2), tmp_path / "run")
    assert newest_checkpoint(tmp_path / "run").state["bad"] == 1


def test_bad_steps_are_counted_on_after_a_stop(tmp_path):
    class Stopped(LineTask):
        def loss(self, model, batch):
            if self.calls == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(model, batch)

    config = replace(CONFIG, max_bad_steps=5)
    with pytest.raises(SystemExit):
        train(Stopped(poison=range(3, 9)), config, tmp_path / "run")  # ends with three
    again = LineTask(poison=range(9))
    with pytest.raises(TrainingError, match="5 steps in a row"):
        train(again, config, tmp_path / "run")
    assert again.calls == 2


def test_a_gradient_is_cut_to_the_longest_that_is_allowed(tmp_path):
    train(LineTask(), replace(CONFIG, samples=10, clip=1e-3, betas=(0.5, 0.9)), tmp_path / "run")
    moments = newest_checkpoint(tmp_path / "run").parts["optimizer"]
    means = torch.cat([m.flatten() for name, m in moments.items() if name.endswith("exp_avg")])
    assert float(means.norm()) == pytest.approx(0.5 * 1e-3, rel=0.01)  # of the first step a half is kept


def test_minutes_become_samples_once(tmp_path):
    config = TrainConfig(batch=10, minutes=0.0005, warmup=20, lr=0.02, bf16=False)
    train(LineTask(), config, tmp_path / "run")
    budget = json.loads((tmp_path / "run/budget.json").read_text())
    assert budget["samples"] > 0
    train(LineTask(), config, tmp_path / "run")  # finished: nothing more to do, the same budget
    assert json.loads((tmp_path / "run/budget.json").read_text()) == budget


def test_too_few_minutes_for_a_step_are_one_step(tmp_path):
    config = TrainConfig(batch=10, minutes=1e-9, warmup=20, lr=0.02, bf16=False)
    train(LineTask(), config, tmp_path / "run")
    assert newest_checkpoint(tmp_path / "run").step == 1


def test_other_minutes_are_another_budget(tmp_path):
    config = TrainConfig(batch=10, minutes=1e-9, warmup=20, lr=0.02, bf16=False)
    train(LineTask(), config, tmp_path / "run")
    train(LineTask(), replace(config, minutes=0.02), tmp_path / "run", accept_changes=True)
    budget = json.loads((tmp_path / "run/budget.json").read_text())
    assert budget["minutes"] == 0.02 and budget["samples"] > 10
    assert newest_checkpoint(tmp_path / "run").state["samples"] >= budget["samples"]


def test_samples_count_on_where_a_run_goes_on_with_another_batch(tmp_path, caplog):
    """None is shown twice and none is skipped."""
    caplog.set_level("INFO", "stagepose")
    task = LineTask()
    train(task, replace(CONFIG, samples=40), tmp_path / "run")
    train(task, replace(CONFIG, samples=78, batch=5, log_every=1), tmp_path / "run", accept_changes=True)
    assert task.seen == [divmod(i, 50) for i in range(80)]
    found = newest_checkpoint(tmp_path / "run")
    assert found.step == 4 + 8 and found.state["samples"] == 80
    last = json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[-2])
    assert (last["samples"], last["of"], last["minutes_left"]) == (80, 80, 0)
    train(task, replace(CONFIG, samples=78, batch=5, log_every=1), tmp_path / "run")
    assert "run: trained to the end before, 80 of 78 samples shown" in caplog.text


def test_a_validation_is_no_part_of_the_trainings_speed(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(journal.time, "perf_counter", lambda: clock[0])
    told = {"step": 0, "shown": 0, "batch": 10, "total": 1000, "machine": Machine()}
    with Run(tmp_path / "run", {}) as run, closing(Journal(run, **told)) as j:
        clock[0] = 3.0  # three steps of a second
        with j.clock_stopped():
            clock[0] = 100.0
        clock[0] = 102.0  # two more
        j.step(5, 50, {}, lr=0.1, norm=1.0, waited=0.0)
    line = json.loads((tmp_path / "run/log.jsonl").read_text())
    assert line["samples_per_second"] == 10 and line["minutes_left"] == round(95 / 60, 1)


def test_a_schedule_that_is_made_shorter_is_warm_before_it_ends(tmp_path):
    base = TrainConfig(samples=12_000_000, warmup=80_000)
    assert ScheduleOptions(samples=50_000).scheduled(base).warmup == 5_000
    assert ScheduleOptions(samples=1_000_000).scheduled(base).warmup == 80_000
    assert ScheduleOptions().scheduled(base) == base
    for batch in (10, 20):  # a run that goes on with another too
        rehearsal = ScheduleOptions(steps=500, batch=batch).scheduled(base)
        asked = ScheduleOptions(samples=500 * batch, batch=batch).scheduled(base)
        assert rehearsal == replace(asked, log_every=1) and rehearsal.warmup == 50 * batch
    config = TrainConfig(batch=10, minutes=0.0005, warmup=80_000, lr=0.02, bf16=False, log_every=1)
    train(LineTask(), config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert max(line["lr"] for line in lines if "lr" in line) > 0.009


def test_a_rehearsal_is_judged_on_its_way_where_that_is_asked_for():
    base = TrainConfig(samples=8_000, evaluate_every=100)
    assert ScheduleOptions(steps=5).scheduled(base).evaluate_every == 0
    assert ScheduleOptions(steps=5, evaluate_every=2).scheduled(base).evaluate_every == 2


@pytest.mark.parametrize(("change", "message"), [
    ({"schedule": "steps"}, "schedule is 'steps', expected one of cosine, linear"),
    ({"weight_decay": -1.0}, "weight_decay is -1"), ({"weight_decay": float("nan")}, "weight_decay is nan"),
])
def test_schedules_that_make_no_sense(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)


def test_schedule_and_average():
    assert lr_factor(0, 1000, 100) < 0.02 and lr_factor(100, 1000, 100) == 1
    assert lr_factor(1000, 1000, 100) == pytest.approx(0.01)
    assert lr_factor(550, 1000, 100) == pytest.approx(0.505)
    line = [lr_factor(shown, 1000, 100, schedule="linear") for shown in (50, 100, 325, 550, 1000)]
    assert line == pytest.approx([51 / 101, 1, 0.75, 0.5, 0])
    model = nn.BatchNorm1d(2)
    ema = Ema(model, 0.9)
    with torch.no_grad():
        model.weight += 1
        model.num_batches_tracked += 3
    ema.update(10**6)
    assert torch.allclose(ema.model.weight, torch.full((2,), 1.1)) and ema.model.num_batches_tracked == 3


def test_the_average_soon_forgets_its_start():
    model = nn.Linear(1, 1)
    ema = Ema(model, 0.999)
    with torch.no_grad():
        model.weight += 11
    ema.update(1)
    assert torch.allclose(ema.model.weight, model.weight - 2)  # a decay of (1 + 1) / (10 + 1)


def test_frozen_and_trunk_parameters():
    """Matrices alone decay, and of what is slower the first start that fits decides."""
    model = nn.ModuleDict({"trunk": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    optimizer = make_optimizer(model, lr=1.0, weight_decay=0.1, slower=(("trunk.w", 0.1), ("trunk.", 0.5)))
    set_lr(optimizer, 0.2)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert np.array([found[id(p)] for p in model.parameters()]) == pytest.approx(np.array(
        [[0.02, 0.1], [0.1, 0], [0.2, 0.1], [0.2, 0]]))  # trunk, head: weight and bias of each
    model.requires_grad_(False)
    with pytest.raises(ConfigError, match="frozen"):
        make_optimizer(model, lr=1.0, weight_decay=0.1)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (50, 50)])
def test_a_matrix_made_orthogonal_keeps_its_directions(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(-1, 1, shape[1])
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonal(matrix) @ v.T  # its singular vectors are the matrix's own
    strong = inner.diagonal()[values > 0.02 * matrix.norm()]
    assert len(strong) > 20 and strong.min() > 0.6 and inner.diagonal().max() < 1.25
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-3


def test_muon_multiplies_in_all_digits_whatever_is_usual(monkeypatch):
    """With what TF32 drops, weak directions would become noise."""
    asked = []
    monkeypatch.setattr(optim, "orthogonal", lambda m: asked.append(torch.get_float32_matmul_precision()) or m)
    net = nn.Linear(64, 64)
    optimizer = make_optimizer(net, "muon", lr=0.01, weight_decay=0)
    net(torch.rand(2, 64)).sum().backward()
    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        optimizer.step()
        assert (asked, torch.get_float32_matmul_precision()) == (["highest"], "high")
    finally:
        torch.set_float32_matmul_precision(usual)


def test_muon_turns_convolutions_and_leaves_the_rest_to_adamw():
    def network():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(8, 64, 3, bias=False), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3, groups=64),
                             nn.Conv2d(64, 17, 1)).to(memory_format=torch.channels_last)

    pictures = torch.rand(2, 8, 12, 12)
    nets = {kind: network() for kind in ("adamw", "muon")}
    for kind, net in nets.items():
        optimizer = make_optimizer(net, kind, lr=0.01, weight_decay=0.1)
        assert isinstance(optimizer, Muon) == (kind == "muon")
        net(pictures).square().mean().backward()
        optimizer.step()
    before, steps = network().state_dict(), {}
    for kind, net in nets.items():
        steps[kind] = {name: value - before[name] for name, value in net.state_dict().items()}
    for name in ("1.weight", "2.weight", "2.bias", "3.weight", "3.bias"):  # norms, depthwise, the last layer
        assert torch.equal(steps["muon"][name], steps["adamw"][name]), name
    turned = steps["muon"]["0.weight"] + 0.01 * 0.1 * before["0.weight"]  # without the decay
    assert 0.7 < turned.square().mean().sqrt() / (0.2 * 0.01) < 1.2  # as long as AdamW's usual step
    values = torch.linalg.svdvals(turned.flatten(1))
    assert values.max() < 2.5 * values.min()
    assert torch.linalg.svdvals(steps["adamw"]["0.weight"].flatten(1)).max() > 5 * values.min()


@pytest.mark.parametrize(("change", "message"), [
    ({"samples": 0}, "either samples or minutes"), ({"minutes": 1.0}, "either samples or minutes"),
    ({"batch": 0}, "batch is 0"), ({"lr": -1.0}, "lr is -1"), ({"lr": float("nan")}, "lr is nan"),
    ({"optimizer": "sgd"}, "optimizer is 'sgd', expected one of adamw, muon"),
    ({"seed": -1}, "seed is -1"), ({"seed": 2**63}, "expected at most"),
])
def test_impossible_schedules_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**{"samples": 10, **change})


def test_a_terminal_gets_one_line_and_log_messages_above_it(tmp_path, monkeypatch):
    class Talkative(LineTask):
        def evaluate(self, model):
            logging.getLogger("stagepose").warning("validation: good")
            return super().evaluate(model)

    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 100))
    shown = []

    def read():
        with suppress(OSError):  # how a terminal's other end learns that it was closed
            while data := os.read(here, 4096):
                shown.append(data)

    reading = threading.Thread(target=read)
    reading.start()
    with os.fdopen(there, "w") as terminal:
        handler = logging.StreamHandler(terminal)
        logging.getLogger().addHandler(handler)
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        try:
            train(Talkative(), CONFIG, tmp_path / "run")
        finally:
            logging.getLogger().removeHandler(handler)
        assert handler.stream is terminal and sys.stderr is terminal
    reading.join()
    os.close(here)
    text = b"".join(shown).decode()
    assert "800/800" in text and "a second, line" in text and "left" in text
    assert "\r\x1b[2Kvalidation: good\r\n" in text  # on a line of its own, which was cleared before


def test_tensorboard_gets_the_curves_and_a_strip_of_people(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Shown(LineTask):
        def overlays(self, model):
            return np.full((8, 16, 3), 200, dtype=np.uint8)

    train(Shown(), CONFIG, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"line", "lr", "samples_per_second", "waiting_for_data", "utilisation", "ap"} <= scalars
    assert [e.step for e in events.Scalars("line")] == list(range(5, 81, 5))
    assert events.Tags()["images"] == ["validation"]


def test_a_part_after_the_other_learns_as_the_whole_batch_does(tmp_path):
    class Plain(LineTask):  # without batch norm, which sees each part alone
        def __init__(self):
            super().__init__()
            self.model = self.network = nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 1))

    torch.manual_seed(3)
    train(Plain(), CONFIG, tmp_path / "whole")
    torch.manual_seed(3)
    train(Plain(), replace(CONFIG, accumulate=2), tmp_path / "parts")
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.allclose(a[k], b[k], atol=1e-4) for k in a)


def test_changed_settings_are_refused_unless_told(tmp_path):
    """F12; a setting that an older version did not know is not a change."""
    train(LineTask(), CONFIG, tmp_path / "run")
    path = tmp_path / "run/config.json"
    old = json.loads(path.read_text())
    del old["train"]["save_minutes"]
    path.write_text(json.dumps(old))
    train(LineTask(), CONFIG, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"train\.lr: 0\.02 -> 0\.03.*--accept-changes"):
        train(LineTask(), replace(CONFIG, lr=0.03), tmp_path / "run")
    train(LineTask(), replace(CONFIG, lr=0.03), tmp_path / "run", accept_changes=True)
    assert json.loads(path.read_text())["train"]["lr"] == 0.03


def test_a_run_that_saved_nothing_takes_other_settings(tmp_path):
    """A start that failed is no training: nothing would be mixed. What it took minutes for is forgotten with it."""
    spent = replace(CONFIG, samples=0, minutes=0.01)
    with pytest.raises(TrainingError):
        train(LineTask(poison=range(1000)), replace(spent, max_bad_steps=1), tmp_path / "run")
    assert (tmp_path / "run/budget.json").is_file()
    train(LineTask(), replace(CONFIG, lr=0.03), tmp_path / "run")
    assert json.loads((tmp_path / "run/config.json").read_text())["train"]["lr"] == 0.03
    assert not (tmp_path / "run/budget.json").exists()
    log = (tmp_path / "run/log.jsonl").read_text()
    assert "changed before anything was saved" in log and "train.lr: 0.02 -> 0.03" in log
    with pytest.raises(ConfigError, match=r"train\.lr: 0\.03 -> 0\.02"):
        train(LineTask(), CONFIG, tmp_path / "run")


class JudgedTask(LineTask):
    """Judged by a set of its own, on which everything counts ``ap``."""

    def __init__(self, val, ap):
        super().__init__()
        self.val, self.ap = val, ap

    def evaluate(self, model):
        return Judged({"ap": self.ap}) if self.val else UNJUDGED

    def describe(self):
        return super().describe() | ({"val": self.val} if self.val else {})


def test_another_judge_is_noticed_and_its_numbers_are_compared_with_none_of_the_old(tmp_path):
    train(JudgedTask("", 0.0), CONFIG, tmp_path / "run")
    train(JudgedTask("easy", 0.9), CONFIG, tmp_path / "run")  # where there was none, nothing changes
    assert read_object(tmp_path / "run/best.json")["ap"] == 0.9
    with pytest.raises(ConfigError, match="val: 'easy' -> 'hard'"):
        train(JudgedTask("hard", 0.2), CONFIG, tmp_path / "run")
    (tmp_path / "run/best_results.json").touch()
    train(JudgedTask("hard", 0.2), CONFIG, tmp_path / "run", accept_changes=True)
    assert read_object(tmp_path / "run/best.json")["ap"] == 0.2 and not (tmp_path / "run/best_results.json").exists()


class FindingTask(LineTask):
    """Judged every few steps as ``aps`` says, the results being the number of the validation."""

    def __init__(self, *aps):
        super().__init__()
        self.aps, self.judged = aps, 0

    def evaluate(self, model):
        self.judged += 1
        return Judged({"ap": self.aps[self.judged - 1]}, KeypointResults([{"validation": self.judged}], [7, 3]))


def test_what_the_best_validation_found_is_kept(tmp_path):
    train(FindingTask(0.2, 0.4, 0.3, 0.1), replace(CONFIG, evaluate_every=20), tmp_path)
    assert read_object(tmp_path / "best_results.json") == {"step": 40, "images": [3, 7], "results": [{"validation": 2}]}
    assert read_object(tmp_path / "best.json") == {"step": 40, "ap": 0.4}
    assert read_object(tmp_path / "judged.json") == {"step": 80, "ap": 0.1}


def test_bad_samples_are_named(tmp_path):
    """F13."""
    train(LineTask(poison=[5]), CONFIG, tmp_path / "run")
    bad = [r for r in map(json.loads, (tmp_path / "run/log.jsonl").read_text().splitlines()) if "skipped" in r]
    assert bad[0]["samples"] == [f"sample 0.{i}" for i in range(40, 50)]


def test_frozen_parts_keep_their_statistics(tmp_path):
    """A trunk's frozen blocks are in evaluation mode from the first step on, though nobody called train() before."""
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
            return self

    task = LineTask()
    task.model = task.network = Frozen(*task.model)
    train(task, CONFIG, tmp_path / "run")
    assert task.model[1].num_batches_tracked == 0 and float(task.model[1].running_mean) == 0


def test_the_last_curves_are_written_when_a_run_is_stopped(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(loop.Journal, "close", lambda journal: closed.append(journal))
    with pytest.raises(TrainingError):
        train(LineTask(poisoned_input=range(30, 80)), CONFIG, tmp_path / "bad")
    assert len(closed) == 1
