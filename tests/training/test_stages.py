"""Stage by stage: who goes on, what an open and a shut gate do, kills, ranks, and what comes out at the end."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import tiny_coco
from toy_models import pose_info
from waiting import LONGEST, until

from stagepose.cli import main
from stagepose.coco import read_dataset
from stagepose.errors import ConfigError, DatasetError
from stagepose.heatmaps import UdpOks
from stagepose.predictor import Predictor, load
from stagepose.skeleton import COCO_17
from stagepose.training import decoding
from stagepose.training.augment import NO_AUGMENTATION, AugmentConfig
from stagepose.training.checkpoint import load_step, load_weights, newest_checkpoint
from stagepose.training.crops import CropSpec, open_or_pack
from stagepose.training.export import drawn_crops, parity, torch_to_onnx
from stagepose.training.inference import NumpyHeatmaps, PoseInference
from stagepose.training.loop import TrainConfig, train
from stagepose.training.networks.zoo import StageOptions, build
from stagepose.training.people import Chosen, PeopleSets, PoseData, spread
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.stages import StagedTraining, StagesConfig, chosen, earlier_slower, folds_by_picture
from stagepose.training.table import Table, examine, recalibrate
from stagepose.training.trained import open_pose

CODEC = UdpOks(input_size=(64, 64))
CONFIG = TrainConfig(batch=4, samples=24, warmup=4, lr=3e-3, bf16=False, save_every=3)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A drawn set of 12 people on 6 pictures, and its crops."""
    folder = tmp_path_factory.mktemp("people")
    path = tiny_coco(folder, images=6, people=2)
    store = open_or_pack(path, folder / "images", folder / "crops", spec=CropSpec(input_size=CODEC.input_size),
                         skeleton=COCO_17)
    return path, store


def a_table(oks, sets=None, stage=1):
    count = len(oks)
    whole = np.arange(count)
    return Table(stage=stage, stores=("a", "b"), fingerprints=("1", "2"), image_ids=whole, annotation_ids=whole,
                 sets=np.zeros(count, int) if sets is None else np.array(sets), oks=np.array(oks, dtype=float),
                 scores=np.array(oks, dtype=float) / 2, visible=whole, hidden=whole)


OKS = [0.9, 0.79, 0.8, 0.1, 0.61, 0.59]


@pytest.mark.parametrize(("stage", "options", "kept"), [
    (2, {}, [1, 3, 4, 5]),  # below 0.8, and 0.8 itself is found
    (3, {}, [3, 5]),
    (2, {"shares": (0.5,)}, [3, 4, 5]),
    (2, {"pick": "all"}, [0, 1, 2, 3, 4, 5]),
    (2, {"easy_share": 0.2}, None),
])
def test_who_goes_on(stage, options, kept):
    picked = chosen(a_table(OKS, stage=stage - 1), stage, StagesConfig(**options), seed=0)
    if kept is None:  # one easy person beside four hard ones is a fifth
        assert picked.kept.sum() == 5 and picked.kept[[1, 3, 4, 5]].all()
    else:
        assert np.flatnonzero(picked.kept).tolist() == kept
    assert picked.importance is None


def test_shares_and_random_controls_count_every_set_alone():
    oks, sets = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], [0] * 4 + [1] * 6
    hard = chosen(a_table(oks, sets), 2, StagesConfig(shares=(0.5,)), seed=0).kept
    assert np.flatnonzero(hard).tolist() == [0, 1, 4, 5, 6]
    drawn = [chosen(a_table(oks, sets), 2, StagesConfig(shares=(0.5,), pick="random"), seed=s).kept for s in range(9)]
    assert all(d[:4].sum() == 2 and d[4:].sum() == 3 for d in drawn)
    assert len({d.tobytes() for d in drawn}) > 3
    again = chosen(a_table(oks, sets), 2, StagesConfig(shares=(0.5,), pick="random"), seed=3).kept
    assert (again == drawn[3]).all()


@pytest.mark.parametrize("pick", ["hard", "random"])
def test_of_a_share_of_a_small_set_somebody_goes_on(pick):
    picked = chosen(a_table([0.9, 0.2, 0.5, 0.7], [0, 0, 0, 1]), 3, StagesConfig(shares=(0.4, 0.15), pick=pick), seed=0)
    assert picked.kept[:3].sum() == 1 and picked.kept[3] and (pick == "random" or picked.kept[1])


def test_people_count_by_their_difficulty():
    picked = chosen(a_table(OKS), 2, StagesConfig(pick="all", by_difficulty=True), seed=0)
    assert np.allclose(picked.importance, 1 - np.array(OKS))


def test_nobody_left_is_said():
    with pytest.raises(ConfigError, match=r"nobody of 2 people.*lowest OKS is 0\.90.*shares"):
        chosen(a_table([0.9, 0.95]), 2, StagesConfig(), seed=0)


@pytest.mark.parametrize(("options", "message"), [
    ({"thresholds": (1.5,)}, r"thresholds \(1\.5,\)"), ({"folds": 1}, "folds is 1"),
    ({"easy_share": 1.0}, "easy_share"), ({"samples": (0,)}, "samples"), ({"recalibrate": -1}, "recalibrate"),
])
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        StagesConfig(**options)


def test_every_later_stage_needs_a_limit():
    StagesConfig().check(3)
    with pytest.raises(ConfigError, match="3 later ones, but there are limits for 2"):
        StagesConfig().check(4)
    with pytest.raises(ConfigError, match="network of 2 or more"):
        StagesConfig().check(1)
    with pytest.raises(ConfigError, match="one a later stage"):
        StagesConfig(samples=(10,)).check(3)


def test_there_are_no_more_folds_than_pictures(people, tmp_path):
    _, store = people
    parts = {"pose": PoseConfig(network="2xu-300m", codec=CODEC), "train": CONFIG,
             "sets": PeopleSets([store, store]), "out": tmp_path / "run"}
    StagedTraining(config=StagesConfig(folds=6), **parts)
    with pytest.raises(ConfigError, match="folds is 7, but the people to learn from are on 6 pictures"):
        StagedTraining(config=StagesConfig(folds=7), **parts)
    assert not (tmp_path / "run").exists()


def test_only_the_chosen_are_shown(people):
    _, store = people
    kept = np.arange(12) % 3 == 0
    data = PoseData([store, store], [2.0, 1.0], NO_AUGMENTATION, chosen=Chosen(kept=np.concatenate([kept, ~kept])))
    shown, times = np.unique(data.order(5), return_counts=True)
    assert shown.tolist() == [*np.flatnonzero(kept), *(12 + np.flatnonzero(~kept))]
    assert times.tolist() == [2] * 4 + [1] * 8 and data.counts == [4, 8]


def test_a_picture_lies_in_one_fold_in_every_set(people):
    _, store = people
    folds = folds_by_picture([store, store], 3, seed=1)
    pairs = {(i, f) for i, f in zip(store.image_ids.tolist(), folds[:12].tolist(), strict=True)}
    assert len(pairs) == 6 and np.bincount(folds[:12]).tolist() == [4, 4, 4]
    assert (folds[12:] == folds[:12]).all() and (folds_by_picture([store], 3, seed=1) == folds[:12]).all()


def gated(store, gates, network="2xu-300m"):
    torch.manual_seed(3)
    config = PoseConfig(network=network, codec=CODEC, gates=gates, augment=NO_AUGMENTATION)
    return PoseTask(build(network, 17), config, PeopleSets([store]))


def test_an_open_gate_is_plain_training(people, tmp_path):
    _, store = people
    train(gated(store, ()), CONFIG, tmp_path / "plain")
    train(gated(store, (1.0,)), CONFIG, tmp_path / "open")
    plain, opened = (newest_checkpoint(tmp_path / name).parts for name in ("plain", "open"))
    assert all(torch.equal(plain[part][name], opened[part][name]) for part in plain for name in plain[part])


def test_a_shut_gate_leaves_a_stage_as_it_is(people, tmp_path):
    """Weights, batch norms, average and optimizer of the late stage are bit-equal; the first stage learns."""
    _, store = people
    task = gated(store, (0.0,))
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    train(task, CONFIG, tmp_path / "run")
    parts = newest_checkpoint(tmp_path / "run").parts
    late = [name for name in before if ".stages.1." in name or ".links." in name]
    early = [name for name in before if ".stages.0." in name and name.endswith("weight")]
    assert len(late) > 50
    for part in ("model", "ema"):
        assert all(torch.equal(parts[part][name], before[name]) for name in late)
        assert not any(torch.equal(parts[part][name], before[name]) for name in early)
    moments = sum(name.endswith("exp_avg") for name in parts["optimizer"])
    assert moments == sum(1 for name, _ in task.model.named_parameters() if name not in late)


def test_a_gate_that_shuts_later_stops_the_average_too(people, tmp_path):
    """Once it is shut nothing of the stage moves any more, not even the average towards the weights."""
    _, store = people
    task = gated(store, (1.0,))
    kept, own = {}, task.idle

    def idle():
        parts = own()
        if kept or task.calls < 3:
            return parts
        kept.update({name: t.clone() for name, t in task.model.state_dict().items()})
        task.config = replace(task.config, gates=(0.0,))
        return parts

    task.calls, whole = 0, task.loss

    def loss(model, batch):
        task.calls += 1
        return whole(model, batch)

    task.idle, task.loss = idle, loss
    train(task, replace(CONFIG, save_every=1, samples=20), tmp_path / "run")  # 5 steps, shut after the third
    last = newest_checkpoint(tmp_path / "run").parts
    before = load_step(tmp_path / "run/steps/000000004").parts
    late = [name for name in last["ema"] if ".stages.1." in name or ".links." in name]
    assert all(torch.equal(last["ema"][name], before["ema"][name]) for name in late)
    assert any(not torch.equal(last["ema"][name], last["model"][name]) for name in late)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stage_rests_only_where_no_part_of_a_step_teaches_it(people, tmp_path, monkeypatch, accumulate):
    """One person alone opens the gate: a step counts for the stage in whichever of its parts that person is."""
    _, store = people
    task = gated(store, (0.5,))
    lost = task.reader.areas[0]
    monkeypatch.setattr(decoding, "oks", lambda _points, _truth, areas, _sigmas: torch.tensor(
        [0.0 if abs(area - lost) < 1e-6 else 1.0 for area in areas]))
    rested, own = [], task.idle
    task.idle = lambda: rested.append(own()) or rested[-1]
    train(task, replace(CONFIG, accumulate=accumulate), tmp_path / "run")
    shown = np.concatenate([task.reader.order(0), task.reader.order(1)]).reshape(6, 4)
    assert [not parts for parts in rested] == (shown == 0).any(1).tolist()


def test_a_gate_counts_only_whom_the_stage_before_misses(people):
    _, store = people
    task = gated(store, (0.5,))
    batch = task.batch([(0, i) for i in range(8)])
    perfect = task.config.codec.encode(batch.keypoints[..., :2], batch.keypoints[..., 2] > 0)
    perfect[::2] = np.roll(perfect[::2], 6, axis=-1)  # every second person is found elsewhere
    logits = torch.from_numpy(perfect).clamp_min(1e-9).log()
    counts = task._sample_weights(task.model, [[logits], [logits]], batch)
    assert counts[:, 0].tolist() == [1] * 8 and counts[:, 1].tolist() == [1, 0] * 4
    assert task.idle() == []
    task._sample_weights(task.model, [[logits[1::2]], [logits[1::2]]], replace(
        batch, images=batch.images[1::2], keypoints=batch.keypoints[1::2], areas=batch.areas[1::2]))
    assert [type(part).__name__ for part in task.idle()] == ["UStage", "Sequential"]
    assert task.idle() == []


def test_areas_grow_with_the_canvas(people):
    path, store = people
    data, dataset = PoseData([store], [1.0], NO_AUGMENTATION), read_dataset(path)
    for place, annotation in enumerate(store.annotation_ids):
        row = dataset.ids.tolist().index(annotation)
        a, b = np.flatnonzero(data.keypoints[place, :, 2])[:2]
        here, there = (np.linalg.norm(p[a, :2] - p[b, :2]) for p in (data.keypoints[place], dataset.keypoints[row]))
        assert data.areas[place] == pytest.approx(dataset.areas[row] * (here / there) ** 2, rel=1e-3)


def test_a_gate_measures_by_the_area_as_it_is_seen(people):
    """Areas grow with the augmentation's affine, as the square of distances does, turned or not."""
    _, store = people
    task = gated(store, (0.5,))
    task.config = replace(task.config, augment=AugmentConfig(scale=0.4, occlusion_chance=0, half_body_chance=0))
    keys = [(0, i) for i in range(12)]
    read, batch = task.reader.read(keys), task.batch(keys)
    seen = (read.keypoints[..., 2] > 0) & (batch.keypoints[:, task.skeleton.flip_index, 2] > 0) & (
        batch.keypoints[..., 2] > 0)
    for row, (a, b) in enumerate(np.flatnonzero(s)[:2] for s in seen):
        before = np.linalg.norm(read.keypoints[row, a, :2] - read.keypoints[row, b, :2])
        now = [np.linalg.norm(p[a, :2] - p[b, :2]) for p in (batch.keypoints[row],
                                                            batch.keypoints[row][task.skeleton.flip_index])]
        growth = batch.areas[row] / read.areas[row]
        assert min(abs(length / before - growth**0.5) for length in now) < 1e-6
    assert np.ptp(batch.areas / read.areas) > 0.1


@pytest.mark.parametrize(("change", "message"), [
    ({"gates": (0.8, 0.6)}, "2 values.*1 later"), ({"coarse": (1.0,)}, "coarse has 1 values, expected 2: one"),
    ({"network": "u-300m", "gates": (0.8,)}, "0 later"),
])
def test_what_does_not_fit_the_stages(people, change, message):
    config = replace(PoseConfig(network="2xu-300m", codec=CODEC), **change)
    with pytest.raises(ConfigError, match=message):
        PoseTask(build(config.network, 17), config, PeopleSets([people[1]]))


def test_a_new_residual_stage_changes_nobody(people):
    task = gated(people[1], ())
    torch.manual_seed(0)
    network = build("2xu-300m", 17, StageOptions(residual=True))
    model = PoseInference(network, CODEC, "kl").eval()
    with torch.no_grad():
        first, second = model.logits(task.plain(np.arange(4)))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_batch_norms_that_learnt_are_measured_on_the_people_asked_for(people):
    _, store = people
    task = gated(store, ())
    task.network.freeze_stages(1)
    model, rows = task.model, np.array([0, 3, 5])
    norm = model.network.stages[1].heads[0].conv[1]
    seen, before = [], model.network.stages[0].heads[0].conv[1].running_mean.clone()
    hook = norm.register_forward_hook(lambda _m, given, _out: seen.append(given[0]))
    recalibrate(model, task, rows)
    hook.remove()
    assert sum(map(len, seen)) == 3
    assert torch.allclose(norm.running_mean, torch.cat(seen).mean((0, 2, 3)), atol=1e-5)
    assert torch.equal(model.network.stages[0].heads[0].conv[1].running_mean, before)
    assert norm.momentum == 0.1 and not norm.training
    assert spread(np.arange(100, 112), 4).tolist() == [100, 103, 107, 111]


def test_a_network_that_judged_on_another_device_takes_the_next_weights(people, monkeypatch):
    task = gated(people[1], ())
    moved = torch.nn.Module.to
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, _: moved(module, torch.float64).float())  # new memory
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    examine(task, np.array([0, 3]))
    task.model.load_state_dict(before)  # as of the next fold


def test_a_table_is_read_back(tmp_path):
    table = a_table(OKS, [0, 0, 0, 1, 1, 1])
    table.save(tmp_path / "1.npz")
    again = Table.read(tmp_path / "1.npz")
    assert again.stage == 1 and again.stores == ("a", "b") and (again.oks == table.oks).all()
    assert again.score_at(0.7) == pytest.approx(0.35)
    (tmp_path / "1.npz").write_bytes(b"no table")
    with pytest.raises(DatasetError, match=r"1\.npz: not a table"):
        Table.read(tmp_path / "1.npz")
    np.save(tmp_path / "1.npy", np.zeros(3))
    (tmp_path / "1.npy").replace(tmp_path / "1.npz")
    with pytest.raises(DatasetError, match=r"1\.npz: not a table"):
        Table.read(tmp_path / "1.npz")


def test_peaks_that_say_nothing_make_no_router():
    with pytest.raises(ConfigError, match="nothing to decide by"):
        replace(a_table(OKS), scores=np.full(6, 0.3)).score_at(0.7)
    with pytest.raises(ConfigError, match="nothing to decide by"):
        replace(a_table(OKS), scores=1 - np.array(OKS)).score_at(0.7)


def test_a_table_of_other_people_is_refused(people, tmp_path):
    _, store = people
    task = gated(store, ())
    table = Table.of(task.reader, stage=1, oks=np.zeros(12), scores=np.zeros(12))
    table.check([store], tmp_path)
    with pytest.raises(DatasetError, match="of other people than"):
        table.check([replace(store, fingerprint="another")], tmp_path)


def test_tuned_earlier_stages_learn_slowly():
    assert earlier_slower(2, StagesConfig()) == ()
    slow = earlier_slower(3, StagesConfig(earlier="tuned", earlier_lr=0.2))
    net = PoseInference(build("3xu-300m", 17), CODEC, "kl")
    rates = {name: next(share for start, share in slow if name.startswith(start)) for name, _ in net.named_parameters()}
    fast = {name for name, rate in rates.items() if rate == 1.0}
    assert fast == {n for n in rates if n.startswith(("network.stages.2.", "network.links.1."))}
    assert set(rates.values()) == {0.2, 1.0}


def command(path, out, *more):
    return ["train-stages", "2xu-300m", "--data", str(path), "--val", str(path.parent / "val/person_keypoints.json"),
            "--out", str(out), "--input-size", "64", "64", "--batch", "4", "--samples", "32", "--threads", "1",
            "--shares", "0.5", "--recalibrate", "12", *more]


@pytest.fixture(scope="module")
def finished(people, tmp_path_factory):
    """A whole stage-by-stage run by the command line."""
    path, _ = people
    tiny_coco(path.parent / "val", images=2, people=1, seed=9)
    for image in (path.parent / "val/images").iterdir():  # other names: the sets must not share pictures
        image.rename(image.with_name("9" + image.name[1:]))
    val = path.parent / "val/person_keypoints.json"
    data = json.loads(val.read_text())
    for image in data["images"]:
        image["file_name"] = "9" + image["file_name"][1:]
        image["id"] += 900
    for annotation in data["annotations"]:
        annotation["image_id"] += 900
    val.write_text(json.dumps(data))
    out = tmp_path_factory.mktemp("staged") / "run"
    assert main(command(path, out)) == 0
    return path, out


def start(words, ranks=1):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    return subprocess.Popen([sys.executable, *launcher, "-m", "stagepose.cli", *words], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, start_new_session=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_each_stage_learns_from_its_own_people(finished):
    _, out = finished
    table, stages = Table.read(out / "stages/1.npz"), out / "stages"
    hard = chosen(table, 2, StagesConfig(shares=(0.5,)), seed=0)
    told = json.loads((stages / "2/config.json").read_text())
    assert told["chosen"] == {"people": [6], "sha256": hard.digest} and told["pose"]["stages"] == 2
    first, second = load_weights(stages / "1.safetensors"), load_weights(out)
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())  # frozen, statistics included
    assert json.loads((stages / "2.json").read_text())["people"] == 6


def test_people_are_judged_by_who_has_not_seen_them(finished, people):
    _, out = finished
    _, store = people
    table = Table.read(out / "stages/1.npz")
    folds = folds_by_picture([store], 2, seed=0)
    task = gated(store, (), "2xu-300m")
    alone = PoseTask(build("2xu-300m", 17, stages=1), replace(task.config, stages=1, gates=()), PeopleSets([store]))
    for fold in (0, 1):
        told = json.loads((out / f"stages/1-fold{fold}/config.json").read_text())
        assert told["chosen"]["sha256"] == Chosen(kept=folds != fold).digest
        alone.model.load_state_dict(load_weights(out / f"stages/1-fold{fold}.safetensors"))
        rows = np.flatnonzero(folds == fold)
        assert np.allclose(examine(alone, rows)[0], table.oks[rows], atol=1e-4)


def staged(path, out, **changes):
    """Three small stages with a checkpoint every other step; earlier stages learn on beside a frozen trunk's norms."""
    folder = path.parent
    store = open_or_pack(path, folder / "images", folder / "crops", spec=CropSpec(input_size=CODEC.input_size),
                         skeleton=COCO_17)
    pose = PoseConfig(network="3xu-300m", codec=CODEC, join=StageOptions(residual=True, aggregate=True))
    config = StagesConfig(shares=(0.5, 0.25), recalibrate=12, earlier="tuned", easy_share=0.2)
    return StagedTraining(pose=pose, train=replace(CONFIG, samples=16, save_every=2), config=replace(config, **changes),
                          sets=PeopleSets([store]), out=Path(out))


def test_three_stages_go_on_exactly_after_kills_within_them(people, tmp_path):
    path, _ = people
    out, whole = tmp_path / "run", tmp_path / "whole"
    words = [str(Path(__file__)), str(path), str(out)]
    for moment in ("stages/1-fold1/steps/000000002", "stages/2/steps/000000002", "stages/3/steps/000000002"):
        process = subprocess.Popen([sys.executable, *words], start_new_session=True,
                                   env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)})
        until((out / moment).exists, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert (out / moment).parent.exists()
    assert not (out / "stages/3.safetensors").exists()
    for folder in (out, whole):
        staged(path, folder).run()
    ours, theirs = load_weights(out), load_weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for stage in (1, 2):
        a, b = (Table.read(run / f"stages/{stage}.npz").oks for run in (out, whole))
        assert (a == b).all()
    first, last = load_weights(out / "stages/1.safetensors"), ours
    assert any(not torch.equal(last[name], tensor) for name, tensor in first.items())  # tuned on


def test_folds_that_leave_nobody_to_learn_from_are_told_before_their_stage_is_trained(people, tmp_path):
    run = staged(people[0], tmp_path / "run", shares=(0.01, 0.01), easy_share=0.0)
    with pytest.raises(ConfigError, match=r"stage 2: whoever goes on \(1 of 12 people\) is in one fold.*--folds 0"):
        run.run()
    assert not (tmp_path / "run/stages/2").exists()
    alone = replace(run, config=replace(run.config, folds=0), accept_changes=True)
    assert alone.run() == tmp_path / "run/stages/3.safetensors"


def test_what_is_trained_together_is_not_set_stage_by_stage(people, tmp_path):
    run = staged(people[0], tmp_path / "run")
    with pytest.raises(ConfigError, match="stage by stage sets its own"):
        replace(run, pose=replace(run.pose, gates=(0.8, 0.6)))


def test_two_ranks_judge_and_pick_as_one(finished, tmp_path):
    path, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for gone in (*out.glob("stages/2*"), out / "stages/1.npz"):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    process = start(command(path, out), ranks=2)
    text, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, text
    assert np.allclose(Table.read(out / "stages/1.npz").oks, Table.read(whole / "stages/1.npz").oks, atol=1e-4)
    one, two = (json.loads((run / "stages/2/config.json").read_text())["chosen"] for run in (whole, out))
    assert one == two and (out / "stages/2.safetensors").is_file()


def test_changed_settings_are_refused(finished, capsys):
    path, out = finished
    assert main(command(path, out, "--easy-share", "0.5")) == 1
    assert "stages.easy_share: 0.0 -> 0.5" in capsys.readouterr().err


def test_what_later_stages_learn_by_is_compared_too(finished, tmp_path, capsys):
    path, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for option, values, message in (("--coarse", ("1.5", "1.0"), "each_stage.coarse: [] -> [1.5, 1.0]"),
                                    ("--ohkm", ("0", "8"), "each_stage.ohkm: [] -> [0, 8]")):
        assert main(command(path, out, option, *values)) == 1
        assert message in capsys.readouterr().err
    config = out / "config.json"
    older = json.loads(config.read_text())
    del older["each_stage"]
    config.write_text(json.dumps(older))
    assert main(command(path, out)) == 0


@pytest.mark.parametrize("option", [("--coarse", "1"), ("--ohkm", "0", "0", "8")])
def test_a_value_for_each_stage_is_asked_for_before_anybody_is_cut_out(people, tmp_path, capsys, option):
    assert main(command(people[0], tmp_path / "run", *option)) == 1
    assert "expected 2: one for each stage of 2xu-300m" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unfinished_run_says_how_far_it_is(finished, tmp_path, capsys):
    _, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "stages/2.safetensors").unlink()
    assert main(["export", str(out), "--out", str(tmp_path / "m.onnx")]) == 0
    assert "stage 1 of 2" in capsys.readouterr().out


@pytest.mark.parametrize("reading", ["last", "mean", "router"])
def test_what_is_exported_finds_people(finished, tmp_path, reading):
    """Where the run's own network does; of two people the router shows one to the second stage."""
    path, whole = finished
    run, file = tmp_path / "run", tmp_path / "model.onnx"
    shutil.copytree(whole, run)
    table = Table.read(run / "stages/1.npz")
    replace(table, scores=table.oks).save(run / "stages/1.npz")  # after eight steps peaks say nothing yet
    dataset, limit, model = read_dataset(path), [], open_pose(run, reading=reading).model
    picture, boxes = path.parent / "images" / dataset.images[0].file_name, dataset.boxes_xyxy[:2]
    info = pose_info(skeleton=COCO_17, codec=CODEC, input_size=CODEC.input_size)
    own = Predictor(info, NumpyHeatmaps(model))
    if reading == "router":
        model.route_below = float(np.mean([person.scores for person in own(picture, boxes=boxes)[0]]))
        limit = ["--route-below", str(model.route_below)]
    assert main(["export", str(run), "--out", str(file), "--reading", reading, *limit]) == 0
    found, expected = load(file, None)(picture, boxes=boxes)[0], own(picture, boxes=boxes)[0]
    assert len(found) == 2
    for one, other in zip(found, expected, strict=True):
        assert np.median(np.abs(one.keypoints - other.keypoints)) < 1  # a flat heatmap's peak may be elsewhere
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_router_shows_later_stages_only_whom_the_first_misses(people, share):
    """Nobody, some or all go on; in the exported graph too."""
    torch.manual_seed(1)
    network = build("2xu-300m", 17)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data.mul_(1.2)
    router = PoseInference(network, CODEC, "kl", reading="router").eval()
    crops = drawn_crops(CODEC.input_size)
    pictures = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        first, last = (router.heatmaps(stage[0]) for stage in router.logits(pictures))
    heights = first.amax((2, 3)).clamp(0, 1).mean(1)
    router.route_below = float(torch.quantile(heights, share)) + (1e-6 if share else -1e-6)
    goes_on = (heights < router.route_below)[:, None, None, None]
    assert 4 * share <= int(goes_on.sum()) <= 4 * share + 1
    expected = torch.where(goes_on, last, first).numpy()
    assert np.allclose(NumpyHeatmaps(router)(crops), expected, atol=1e-6)
    data = torch_to_onnx(router, (torch.from_numpy(crops),), inputs=["crops"], outputs=["heatmaps"],
                         dynamic={"crops": {0: "people"}, "heatmaps": {0: "people"}})
    assert parity(data, {"crops": crops}, [expected]) < 1e-3
    assert parity(data, {"crops": crops[:1]}, [expected[:1]]) < 1e-3


def test_a_router_needs_a_table(people, finished, tmp_path, capsys):
    path, _ = people
    assert main(["train", "2xu-300m", "--data", str(path), "--out", str(tmp_path / "run"), "--input-size", "64", "64",
                 "--batch", "4", "--steps", "1", "--threads", "1", "--gates", "0.8"]) == 0
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "m.onnx"), "--reading", "router"]) == 1
    assert "only runs of 'stagepose train-stages' have one" in capsys.readouterr().err


def test_the_hardest_people_as_a_picture(finished, tmp_path, capsys):
    _, out = finished
    assert main(["hard", str(out), "--out", str(tmp_path / "hard.png"), "--count", "5"]) == 0
    table = Table.read(out / "stages/1.npz")
    worst = table.annotation_ids[np.argsort(table.oks, kind="stable")[0]]
    assert capsys.readouterr().out.splitlines()[1].split()[0] == str(worst)
    assert cv2.imread(str(tmp_path / "hard.png")).shape == (226, 996, 3)
    assert main(["hard", str(out), "--stage", "2"]) == 1
    assert "tables after [1]" in capsys.readouterr().err
    assert main(["hard", str(out), "--skip", "99", "--out", str(tmp_path / "none.png")]) == 1
    assert "only 12 people" in capsys.readouterr().err


def test_the_hardest_people_are_found_after_everything_has_moved(finished, tmp_path, capsys):
    _, whole = finished
    out, crops, sheet = tmp_path / "moved/run", tmp_path / "moved/crops", tmp_path / "hard.png"
    shutil.copytree(whole, out)
    shutil.copytree(whole.parent / "crops", crops)
    table = Table.read(out / "stages/1.npz")
    gone = tuple(str(tmp_path / "gone" / Path(home).name) for home in table.stores)
    replace(table, stores=gone).save(out / "stages/1.npz")
    assert main(["hard", str(out), "--out", str(sheet)]) == 0
    assert cv2.imread(str(sheet)).shape[1] == 8 * 198 + 6
    shutil.move(crops, tmp_path / "elsewhere")
    assert main(["hard", str(out), "--out", str(sheet)]) == 1
    assert f"nor is there a {Path(gone[0]).name} in {crops}; --crops names" in capsys.readouterr().err
    assert main(["hard", str(out), "--out", str(sheet), "--crops", str(tmp_path / "elsewhere")]) == 0


@pytest.mark.parametrize(("words", "message"), [
    (("--shares", "0.5", "--thresholds", "0.7"), "--shares are instead of --thresholds; leave one of the two out"),
    (("--earlier-lr", "0.2"), "--earlier-lr 0.2 is for --earlier tuned; leave it out"),
    (("--earlier", "frozen", "--earlier-lr", "0.2"), "--earlier-lr 0.2 is for --earlier tuned; leave it out"),
])
def test_options_that_would_change_nothing_are_refused(people, tmp_path, capsys, words, message):
    assert main(["train-stages", "2xu-300m", "--data", str(people[0]), "--out", str(tmp_path / "run"), *words]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_detectors_and_single_stages_are_refused(people, tmp_path, capsys):
    path, _ = people
    for preset, message in (("person-small", "is a detector"), ("u-300m", "is not a row of stages")):
        assert main(["train-stages", preset, "--data", str(path), "--out", str(tmp_path / "run")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


if __name__ == "__main__":  # the run that test_three_stages_go_on_exactly_after_kills_within_them kills
    torch.set_num_threads(1)
    staged(Path(sys.argv[1]), sys.argv[2]).run()
