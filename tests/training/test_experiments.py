"""Experiments: arms differ in the one thing that is asked, runs survive a kill, and the outcome says whose numbers."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from tiny import tiny_coco, tiny_dict, two_sets, write_json
from waiting import until

from stagepose.cli import main
from stagepose.errors import ConfigError, MissingExtraError
from stagepose.skeleton import COCO_17
from stagepose.training.experiments import EXPERIMENTS, Outcome, estimate, experiment, write_outcome
from stagepose.training.experiments.outcome import require_plots
from stagepose.training.experiments.runner import Place, folder_of, run_all
from stagepose.training.inputs import RunContext, TrainingSet
from stagepose.training.networks import zoo

SCALES = ("tiny", "small", "full")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_arms_differ_in_nothing_but_what_is_asked(name, scale):
    chosen = experiment(name, scale)
    assert chosen.name == name and len(chosen.arms) > 1 and chosen.seeds > 1
    assert {arm.recipe.pose.network for arm in chosen.arms} <= set(zoo.NETWORKS)
    poses = {str(replace(arm.recipe.pose, network="", imagenet=False)) for arm in chosen.arms}
    schedules = {replace(arm.recipe.train, samples=arm.recipe.train.samples // arm.times) for arm in chosen.arms}
    assert len(poses) == len(schedules) == 1
    networks = {(arm.recipe.pose.network, arm.recipe.pose.imagenet, arm.pretrained, arm.stages, arm.extended)
                for arm in chosen.arms}
    assert len(networks) == len(chosen.arms)


def test_resampling_shows_every_arm_as_much():
    """But for the networks that only judge, which are no part of what is compared."""
    together, *staged = experiment("resampling", "full").changed(samples=1000).arms
    assert together.shown == 3000 and [arm.stages.pick for arm in staged] == ["all", "random", "hard"]
    assert {arm.shown for arm in staged} == {3000 + 2 * 1000}
    assert staged[0].recipe.train.samples == 1000


def test_the_reports_figures():
    backbone, stages, start = (experiment(name, "full") for name in ("backbone", "stages", "initialisation"))
    assert [arm.published for arm in backbone.arms] == [73.3, 73.7, 73.8, 74.1]
    assert [arm.published for arm in stages.arms] == [73.3, None, 77.5, 77.8]
    assert [arm.published for arm in start.arms] == [77.5, 76.9, 77.8, 77.0, 77.0, 76.2, 77.5, 76.9]
    assert [arm.pretrained is None for arm in start.arms] == [True, False] * 4


def test_unknown_names_are_said():
    with pytest.raises(ConfigError, match=r"no experiment named 'backbones'; .*; did you mean backbone\?$"):
        experiment("backbones", "tiny")
    with pytest.raises(ConfigError, match="has no arm 'ResNet-18' at scale 'full'; its arms are"):
        experiment("backbone", "full").changed(arms=("ResNet-18",))
    with pytest.raises(ConfigError, match="0 seeds"):
        experiment("backbone", "full").changed(seeds=0)


def test_a_shorter_schedule_warms_up_shorter():
    short = experiment("backbone", "full").changed(samples=1000, batch=None)
    assert {(arm.recipe.train.samples, arm.recipe.train.warmup) for arm in short.arms} == {(1000, 100)}


def test_hours_follow_from_a_throughput_and_the_networks_work():
    planned = estimate(experiment("backbone", "full"), 17, "cpu", throughput=1000)
    assert planned[0].hours == pytest.approx(36e6 / 1000 / 3600)
    assert planned[2].hours / planned[0].hours == pytest.approx(planned[2].gmacs / planned[0].gmacs)
    with pytest.raises(ConfigError, match=r"throughput is 0\.0"):
        estimate(experiment("backbone", "full"), 17, "cpu", throughput=0.0)
    assert planned[0].gmacs == pytest.approx(7.07, abs=0.01)
    assert all(one.per_second > 0 for one in estimate(experiment("stages", "tiny"), 17, "cpu"))


def outcome(scale="full"):
    chosen = experiment("backbone", scale)
    return Outcome(chosen, {arm.name: [70.0 + n, 71.0 + n] for n, arm in enumerate(chosen.arms)})


def test_the_outcome_stands_beside_the_reports(tmp_path):
    pytest.importorskip("matplotlib")
    write_outcome(outcome(), tmp_path, command="stagepose experiment backbone", data="Learnt from a.json.")
    text = (tmp_path / "backbone.md").read_text()
    assert "| ResNet-101 spatial | 1xres101-spatial | 74.1 | +0.8 | 73.5 ± 0.7 | +3.0 | 73.0, 74.0 |" in text
    assert "Learnt from a.json." in text and "signs and sizes" in text and "rehearsal" not in text
    assert (tmp_path / "backbone.png").read_bytes()[:4] == b"\x89PNG"
    write_outcome(outcome("tiny"), tmp_path, command="stagepose experiment backbone", data="")
    assert "answers nothing" in (tmp_path / "backbone.md").read_text()


def rows_of(*seeds):
    """The two cells of the second arm about its differences; AP of (first arm, second arm) by seed."""
    chosen = experiment("stages", "tiny").changed(seeds=len(seeds))
    names = [arm.name for arm in chosen.arms]
    return Outcome(chosen, dict(zip(names, map(list, zip(*seeds, strict=True)), strict=True))).rows()[1][-2:]


def test_differences_are_told_seed_by_seed():
    """A seed that is bad for both arms says nothing about either; two seeds must differ alike to tell anything."""
    assert rows_of((70.0, 71.0), (60.0, 61.2), (65.0, 65.8)) == ["+1.0, +1.2, +0.8", "+0.5 to +1.5"]
    assert rows_of((70.0, 71.0), (60.0, 62.0)) == ["+1.0, +2.0", "-4.9 to +7.9, not told apart"]
    assert rows_of((70.0, 71.0)) == ["+1.0", "one seed: needs two or more"]
    assert rows_of((70.0, 71.0), (60.0, None)) == ["+1.0", "one seed: needs two or more"]
    assert rows_of((70.0, None)) == ["", ""]


def test_an_outcome_on_the_way_says_how_many_runs_are_done(tmp_path):
    chosen = experiment("stages", "tiny")
    one, two = (arm.name for arm in chosen.arms)
    write_outcome(Outcome(chosen, {one: [70.0, 60.0], two: [71.0, None]}), tmp_path, command="stagepose", data="")
    text = (tmp_path / "stages.md").read_text()
    assert "**3 of 4 runs done**" in text and "65.0 ± 7.1" in text and "| 71.0 | +1.0 | 71.0 | +1.0 |" in text
    assert "stages.png" not in text and not (tmp_path / "stages.png").exists()


def test_a_missing_plotter_is_said_before_the_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r'pip install "stagepose\[plots\]"'):
        require_plots()


def test_it_is_killed_and_goes_on_to_a_table_and_a_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    train, val = two_sets(tmp_path)
    out = tmp_path / "out"
    words = ["experiment", "stages", "--scale", "tiny", "--samples", "32", "--threads", "1", "--device", "cpu",
             "--data", str(train), "--val", str(val), "--out", str(out)]
    first = out / "runs/1-stage-of-u-300m/seed-0/result.json"
    begun = out / "runs/2-stages-of-u-300m/seed-0/config.json"
    process = subprocess.Popen([sys.executable, "-m", "stagepose.cli", *words], start_new_session=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1"})
    until(begun.is_file, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert first.is_file() and "**1 of 4 runs done**" in (out / "stages.md").read_text()
    kept = first.stat().st_mtime_ns
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "1 stage of u-300m, seed 0: finished already" in printed.err and first.stat().st_mtime_ns == kept
    assert len(list(out.glob("runs/*/seed-*/result.json"))) == 4
    text = (out / "stages.md").read_text()
    assert "| 2 stages of u-300m | 2xu-300m |" in text and "answers nothing" in text and str(tmp_path) not in text
    assert "runs done" not in text
    assert (out / "stages.png").is_file()
    one, two = ([str(out / f"runs/{arm}-of-u-300m/seed-{seed}") for seed in (0, 1)] for arm in ("1-stage", "2-stages"))
    assert main(["compare", *one, "--against", *two, "--truth", str(val), "--bootstrap", "100"]) == 0
    printed = capsys.readouterr()
    assert "1-stage-of-u-300m and 2-stages-of-u-300m" in printed.out and "runs of one seed are compared" in printed.err
    assert main([*words[:4], "--samples", "64", *words[6:]]) == 1
    assert "had other settings (samples: 32 -> 64" in capsys.readouterr().err


def test_stages_trained_one_by_one_are_an_arm_like_any_other(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    train, val = two_sets(tmp_path)
    words = ["experiment", "resampling", "--scale", "tiny", "--samples", "16", "--seeds", "1", "--threads", "1",
             "--device", "cpu", "--data", str(train), "--val", str(val), "--out", str(tmp_path / "out"),
             "--arms", "stage by stage, the hard ones"]
    assert main(words) == 0
    run = tmp_path / "out/runs/stage-by-stage-the-hard-ones/seed-0"
    assert json.loads((run / "result.json").read_text())["ap"] == json.loads((run / "stages/2.json").read_text())["ap"]
    assert "stage by stage, the hard ones" in (tmp_path / "out/resampling.md").read_text()
    assert main(["eval", str(val), "--results", str(run), "--bootstrap", "0", "--json", str(tmp_path / "e.json")]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["keypoints"]["ap"] == pytest.approx(
        json.loads((run / "result.json").read_text())["ap"])
    capsys.readouterr()
    assert main(words) == 0
    assert "finished already" in capsys.readouterr().err
    config = json.loads((run / "config.json").read_text())
    write_json(run, config | {"stages": config["stages"] | {"folds": 3}}, "config.json")
    assert main(words) == 1
    assert "had other settings (stages.folds: 3 -> 2); use them again" in capsys.readouterr().err


def test_generated_people_are_learnt_from_in_one_arm_alone(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    train, val = two_sets(tmp_path)
    extra = tiny_coco(tmp_path / "generated", images=3, people=1, seed=7)
    extra.write_text(json.dumps(json.loads(extra.read_text()) | {"info": {"generated": True}}))
    words = ["experiment", "extension", "--scale", "tiny", "--samples", "16", "--seeds", "1", "--threads", "1",
             "--device", "cpu", "--data", str(train), "--val", str(val), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert "make some with 'stagepose render'" in capsys.readouterr().err
    assert main([*words, "--extra", f"{extra}:2"]) == 0
    learnt = {arm: json.loads((tmp_path / f"out/runs/{arm}/seed-0/config.json").read_text())
              for arm in ("real-people", "real-and-generated-people")}
    assert [len(run["data"]) for run in learnt.values()] == [1, 2]
    assert learnt["real-and-generated-people"]["sampling"] == [1.0, 2.0]
    assert learnt["real-people"]["train"] == learnt["real-and-generated-people"]["train"]
    assert "real and generated people" in (tmp_path / "out/extension.md").read_text()
    assert main(["experiment", "stages", *words[2:], "--extra", str(extra)]) == 1
    assert "--extra means nothing for experiment 'stages'" in capsys.readouterr().err


def test_what_cannot_be_measured_is_refused_before_the_training(tmp_path, capsys):
    train = tiny_coco(tmp_path / "train", images=1)
    nobody = write_json(tmp_path, {**tiny_dict(1), "annotations": []}, "nobody.json")
    words = ["--data", str(train), "--out", str(tmp_path / "out"), "--device", "cpu", "--threads", "1"]
    pytest.importorskip("matplotlib")
    assert main(["experiment", "stages", "--scale", "tiny", *words]) == 2
    assert "--data FILE.json and --val FILE.json (or --plan)" in capsys.readouterr().err
    assert main(["experiment", "stages", "--scale", "tiny", "--val", str(nobody), *words]) == 1
    assert "nobody in it has labelled keypoints" in capsys.readouterr().err
    assert main(["experiment", "initialisation", "--scale", "full", "--arms", "3xres50, ImageNet", "--throughput", "9",
                 "--val", str(train), *words]) == 1
    out, err = capsys.readouterr()
    assert "resnet50.safetensors: no such file" in err and "hours of the device" in out


def test_a_plan_needs_no_data(capsys):
    assert main(["experiment", "backbone", "--scale", "full", "--plan", "--throughput", "1000", "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["ResNet-50", "7.07", "12,000,000", "1,000", "3.3"]
    assert out.splitlines()[-1].startswith("1 seeds: ")


def test_a_plan_does_not_count_what_is_finished(tmp_path, capsys):
    words = ["experiment", "stages", "--scale", "tiny", "--plan", "--throughput", "1", "--out", str(tmp_path)]
    one, two = experiment("stages", "tiny").changed().arms
    for arm, seed, samples in ((one, 0, 64), (one, 1, 32), (two, 1, 64)):  # the second had another schedule
        folder = folder_of(arm, seed, tmp_path)
        folder.mkdir(parents=True)
        train = asdict(replace(arm.recipe.train, seed=seed, samples=samples))
        write_json(folder, {"train": train}, "config.json")
        write_json(folder, {"ap": 0.5}, "result.json")
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-3] for line in lines[1:3]] == ["64", "64"]
    assert lines[3] == ("2 of 4 runs are finished and not counted: 1 stage of u-300m, seed 0; 2 stages of u-300m, "
                        "seed 1")


def test_other_keypoints_are_learnt_and_judged(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    train, val = two_sets(tmp_path)
    face = tmp_path / "face.json"
    category = {"id": 1, "name": "face", "keypoints": ["nose", "left_eye", "right_eye"]}
    face.write_text(json.dumps({"categories": [category]}))
    words = ["experiment", "stages", "--scale", "tiny", "--samples", "8", "--seeds", "1", "--threads", "1", "--device",
             "cpu", "--data", str(train), "--val", str(val), "--out", str(tmp_path / "out"), "--arms",
             "1 stage of u-300m"]
    assert main([*words, "--skeleton", str(face)]) == 0
    config = json.loads((tmp_path / "out/runs/1-stage-of-u-300m/seed-0/config.json").read_text())
    assert config["skeleton"]["names"] == ["nose", "left_eye", "right_eye"]
    assert main(words) == 1
    assert "had other settings (skeleton: face -> coco17)" in capsys.readouterr().err


def test_finished_runs_of_other_data_are_never_shown_as_learnt_from_these(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    train, val = two_sets(tmp_path)
    other = tiny_coco(tmp_path / "other", images=4, seed=3)
    words = ["experiment", "stages", "--scale", "tiny", "--samples", "8", "--seeds", "1", "--threads", "1", "--device",
             "cpu", "--out", str(tmp_path / "out"), "--arms", "1 stage of u-300m"]
    assert main([*words, "--data", str(train), "--val", str(val)]) == 0
    easier = write_json(val.parent, json.loads(val.read_text()) | {"info": {"description": "easier"}}, "easier.json")
    capsys.readouterr()
    for data, judge, said in (
        (str(other), val, "data: other labels or pictures than those of --data and --extra"),
        (f"{train}:2", val, "sampling: [1.0] -> [2.0]"),
        (str(train), easier, "val: other labels than those of --val"),
    ):
        assert main([*words, "--data", data, "--val", str(judge)]) == 1
        error = capsys.readouterr().err
        assert f"had other settings ({said}); use them again, or another --out" in error
    config = tmp_path / "out/runs/1-stage-of-u-300m/seed-0/config.json"
    begun = json.loads(config.read_text())
    begun["data"][0]["fingerprint"] += "-jpeg90"  # the same people, packed as JPEGs
    config.write_text(json.dumps({name: value for name, value in begun.items() if name not in ("val", "init")}))
    assert main([*words, "--data", str(train), "--val", str(val)]) == 0  # as an older version left it
    assert "finished already" in capsys.readouterr().err


def test_a_finished_run_of_a_wide_view_is_known_by_the_crops_that_it_learnt_from(tmp_path):
    train, val = two_sets(tmp_path)
    chosen = experiment("stages", "tiny").changed(samples=8, seeds=1)
    arm = chosen.arms[0]
    chosen = replace(chosen, arms=(replace(arm, recipe=replace(arm.recipe, pose=replace(arm.recipe.pose,
                                                                                        box_padding=2.0))),))
    said = []
    context = RunContext(crops=tmp_path / "crops", val=val, report=said.append)
    place = Place(out=tmp_path / "out", sources=[TrainingSet.parse(str(train))], skeleton=COCO_17, context=context)
    first = run_all(chosen, place)
    assert run_all(chosen, place) == first and "finished already" in said[-1]
