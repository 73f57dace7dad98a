"""Recipes by name, and the losses that they ask for."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_coco
from torch import nn

from stagepose.cli import main
from stagepose.coco import ImageInfo, dataset_from_arrays
from stagepose.commands.recipe_options import CodecName, Experiment, Options
from stagepose.errors import ConfigError
from stagepose.geometry import crop_affine, fit_box
from stagepose.heatmaps import CODECS, Megvii, UdpDark
from stagepose.skeleton import COCO_17
from stagepose.training.augment import NO_AUGMENTATION, AugmentConfig
from stagepose.training.crops import CropSpec, open_or_pack, open_store, pack
from stagepose.training.devices import prepare_device
from stagepose.training.feed import Feed
from stagepose.training.inference import PoseInference
from stagepose.training.inputs import RunContext
from stagepose.training.machine import Machine
from stagepose.training.networks.zoo import NETWORKS, build
from stagepose.training.people import Chosen, PeopleSets, PoseData
from stagepose.training.pose import PoseTask
from stagepose.training.posebuild import PoseInputs, pose_task, require_fit
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.presets import POSE_PRESETS, RECIPES, of_network, pose_preset
from stagepose.training.targets import encode

CODEC = UdpDark(input_size=(64, 64))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    path = tiny_coco(folder, images=2, people=2)
    return open_or_pack(path, folder / "images", folder / "crops", spec=CropSpec(input_size=CODEC.input_size),
                        skeleton=COCO_17)


@pytest.mark.parametrize("name", ["pose-small", "pose-large", "lite0-u"])
def test_a_trunk_that_starts_from_noise_is_neither_frozen_nor_slowed_down(name):
    recipe, given = pose_preset(name), {"data": ["set.json"], "out": Path("run")}
    from_noise = Experiment(imagenet=False)
    noise = Options(**given, experiment=from_noise).changed(recipe)
    assert (noise.pose.imagenet, noise.pose.frozen, noise.train.slower) == (False, 0, ())
    kept = Options(**given).changed(recipe)
    assert kept.pose.frozen == recipe.pose.frozen and kept.train.slower == recipe.train.slower != ()
    assert Options(**given, experiment=from_noise, frozen=2).changed(recipe).pose.frozen == 2  # as it is asked for


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("preset", ["pose-small", "2xmspn50"])
def test_every_codec_can_be_tried_by_command(name, preset):
    recipe, given = pose_preset(preset), {"data": ["set.json"], "out": Path("run")}
    options = Options(**given, schedule="linear", weight_decay=1e-5, experiment=Experiment(codec=name, loss="kl"))
    changed = options.changed(recipe)
    assert changed.pose.codec == CODECS[name](input_size=recipe.pose.size)
    assert (changed.train.schedule, changed.train.weight_decay) == ("linear", 1e-5)
    assert set(get_args(CodecName)) == set(CODECS)


def test_a_codec_for_likely_places_is_not_for_squared_error():
    options = Options(data=["set.json"], out=Path("run"), experiment=Experiment(codec="udp-oks"))
    assert options.changed(pose_preset("pose-small")).pose.loss == "kl"
    with pytest.raises(ConfigError, match=r"--codec udp-oks .* loss 'mse' does not learn; use --loss kl, or --codec"):
        options.changed(pose_preset("1xmspn50"))


@pytest.mark.parametrize("name", POSE_PRESETS)
def test_every_recipe_fits_its_network(name):
    recipe = pose_preset(name)
    with torch.device("meta"):
        network = build(recipe.pose.network, 17, recipe.pose.join)
    stages = len(getattr(network, "stages", ())) or 1
    assert all(len(levels) == 4 for levels in recipe.pose.codecs(stages))
    assert recipe.pose.codecs(stages)[-1][0] == recipe.pose.codec  # what a model file says is what is drawn
    assert len(recipe.pose.ohkm) in (0, 2 if name.startswith("cpn") else stages)
    assert recipe.train.samples > 0


@pytest.mark.parametrize("name", ["tiny-u", "lite-hrnet", "rmspn", "mspn-lite-small", "cpnlike"])
def test_a_network_of_which_no_recipe_says_anything_gets_the_one_for_cpus_whatever_its_name(name):
    recipe = of_network(name)
    assert (recipe.train.batch, recipe.train.samples, recipe.train.slower) == (32, 1_000_000, ())
    assert (recipe.pose.imagenet, recipe.pose.frozen, recipe.pose.ohkm, recipe.pose.loss) == (False, 0, (), "kl")


def test_recipes_are_of_networks_that_there_are():
    assert set(RECIPES) <= set(NETWORKS)
    small = {name for name in NETWORKS if of_network(name).train.batch == 32}
    assert {name for name in small if name not in RECIPES} == {
        "u-300m", "u-3g", "slim-u", "2xu-300m", "3xu-300m", "4xu-300m", "2xslim-u", "3xslim-u", "2xu-3g"}
    assert len(of_network("3xmspn50").pose.coarse) == 3 and of_network("cpn-res101").pose.ohkm == (0, 8)


def test_every_training_set_has_a_weight(store):
    sets = PeopleSets([store, store], [1.0, 0.5], [False, True])
    assert (sets.skeleton, sets.resident, sets.loaded("cpu")) == (store.skeleton, False, sets)
    assert PeopleSets([store]).weights == [1.0] and PeopleSets([store]).generated == [False]
    with pytest.raises(ConfigError, match=r"weights \[1\.0\] and generated \[False, False\] are not of 2"):
        PeopleSets([store, store], [1.0])


def test_the_schedules_seed_is_that_of_the_weights_and_of_the_samples(store, tmp_path):
    inputs = PoseInputs(PeopleSets([store]))
    context = RunContext(crops=tmp_path, report=print)
    recipe, made = of_network("u-300m"), []
    recipe = replace(recipe, pose=replace(recipe.pose, codec=CODEC))
    for seed in (0, 5, 5):
        task = pose_task(replace(recipe, train=replace(recipe.train, seed=seed)), inputs, context)
        made.append((task.seed, float(next(task.network.parameters()).detach().sum())))
    assert [seed for seed, _ in made] == [0, 5, 5] and made[0][1] != made[1][1] == made[2][1]


@pytest.mark.parametrize(("name", "change", "message"), [
    ("hourglass-1", {"ohkm": (0, 8)}, "ohkm has 2 values, expected 1: one for each stage of hourglass-1"),
    ("hourglass-2", {"coarse": (1.4, 1.2, 1.0)}, "coarse has 3 values, expected 2"),
    ("cpn-res50", {"ohkm": (8,)}, "ohkm has 1 values, expected 2"),
    ("simple-res50", {"stage_weights": (1.0, 1.0)}, "stage_weights has 2 values, expected 1"),
    ("u-300m", {"frozen": 2}, "only EfficientNet-Lite trunks come with ImageNet weights to start from or to"),
    ("lite0-u", {"frozen": 99}, "frozen is 99, expected 0 to 16 blocks of the trunk"),
    ("hourglass-2", {"level_weights": (1.0, 0.5)}, "level_weights has 2 values, but hourglass-2 gives heatmaps of 1 "),
    ("cpn-res50", {"level_weights": (1.0,)}, "level_weights has 1 values, but cpn-res50 gives heatmaps of 4 levels"),
    ("hourglass-2", {"gates": (0.8,)}, "gates has 1 values, but hourglass-2 has 0 later stages to gate"),
])
def test_what_does_not_fit_a_network_is_told_before_anybody_is_cut_out(name, change, message):
    recipe = pose_preset(name)
    require_fit(recipe, 17)
    with pytest.raises(ConfigError, match=message):
        require_fit(replace(recipe, pose=replace(recipe.pose, **change)), 17)


def test_a_network_of_one_level_is_weighted_by_one_number():
    recipe = pose_preset("hourglass-2")
    one = Options(data=["set.json"], out=Path("run"), experiment=Experiment(level_weights=[2.0])).changed(recipe)
    require_fit(one, 17)
    assert [len(levels) for levels in one.pose.codecs(2)] == [1, 1]


def test_the_successors_targets_are_its_kernels():
    stages = pose_preset("3xmspn50").pose.codecs(3)
    assert [[codec.kernel for codec in levels] for levels in stages] == [[7, 9, 11, 15]] * 2 + [[5, 7, 9, 11]]
    assert all(codec.stride == 4 for levels in stages for codec in levels)  # all levels at the finest's size


def test_a_run_of_before_says_the_same_of_kernels_that_it_does_not_use(store):
    """So it goes on: a run is refused where its settings differ."""
    task = PoseTask(build("u-300m", 17), PoseConfig(network="u-300m", codec=CODEC), PeopleSets([store]))
    assert task.describe()["pose"]["level_kernels"] == (11, 9, 7, 5)


@pytest.mark.parametrize("codec", [CODEC, Megvii(input_size=(64, 64)), Megvii(input_size=(64, 64), kernel=11)],
                         ids=lambda c: f"{c.name}{getattr(c, 'kernel', '')}")
def test_who_is_certain_of_a_joint_gives_a_heatmap_of_height_1(codec):
    target = encode(codec, np.array([[[32.0, 30.0]]]), np.ones((1, 1), bool))
    heatmaps = PoseInference(nn.Identity(), codec, "kl").heatmaps(target.clamp_min(1e-30).log())
    torch.testing.assert_close(heatmaps, target, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("network", "change", "message"), [
    ("u-300m", {"coarse": (1.5,)}, r"coarse is \(1\.5,\) .* have sigma 3, but the codec, .* has 2; end coarse with 1"),
    ("2xu-300m", {"coarse": (1.5, 1.2)}, "have sigma 2.4, but"),
    ("u-300m", {"codec": UdpDark(input_size=(64, 64), sigma=3.0)}, "have sigma 2, but .* has 3; .* begin level_sigmas"),
    ("u-300m", {"codec": Megvii(input_size=(64, 64), kernel=11)}, "have kernel 5, but .* has 11"),
    ("u-300m", {"level_sigmas": (3.0, 1.5, 1.0, 0.75)}, "have sigma 3, but"),
    ("2xu-300m", {"codec": Megvii(input_size=(64, 64)), "coarse": (7.0, 1.0)}, "kernel is 35, expected an odd"),
])
def test_the_last_stage_learns_the_targets_that_scores_are_scaled_by(network, change, message):
    with pytest.raises(ConfigError, match=message) as error:
        PoseConfig(**{"network": network, "codec": CODEC, **change})
    assert "\n" not in str(error.value)


def test_wider_targets_go_with_a_codec_that_says_so():
    wide = PoseConfig(network="2xu-300m", codec=UdpDark(input_size=(64, 64), sigma=3.0), coarse=(1.5, 1.0),
                      level_sigmas=(3.0, 2.0, 1.5, 1.0))
    assert [levels[0].sigma for levels in wide.codecs(2)] == [4.5, 3.0]
    assert replace(wide, stages=1, coarse=(1.5,)).codecs(1)[0][0].sigma == 4.5  # the first of two, stage by stage


def losses(store, config, chosen=None):
    torch.manual_seed(0)
    task = PoseTask(build(config.network, 17), replace(config, augment=NO_AUGMENTATION), PeopleSets([store]),
                    chosen=chosen)
    return task.loss(task.model, task.batch([(0, 0), (0, 1)]))


def test_coarse_to_fine_hard_joints_and_squared_error_in_one(store):
    config = PoseConfig(network="2xu-300m", codec=Megvii(input_size=(64, 64)), loss="mse", upsample=True,
                        coarse=(1.3, 1.0), ohkm=(8, 8))
    found = losses(store, config)
    assert set(found) == {"stage1", "stage2"} and all(torch.isfinite(v) and v > 0 for v in found.values())
    sum(found.values()).backward()


def test_stages_are_weighted_and_all_stay_in_the_graph(store):
    config = PoseConfig(network="2xu-300m", codec=CODEC)
    plain, weighted = losses(store, config), losses(store, replace(config, stage_weights=(0.0, 0.5)))
    assert float(weighted["stage1"].detach()) == 0 and weighted["stage1"].requires_grad  # as ranks need it
    assert torch.allclose(weighted["stage2"], 0.5 * plain["stage2"])


BOX = np.array([470, 450, 530, 550])  # of the person in the middle of a picture of 1000 x 1000


def task_of_one(folder, picture, padding):
    Image.fromarray(picture).save(folder / "one.png")
    keypoints = np.column_stack([np.full((17, 2), 500), np.full(17, 2)])
    dataset = dataset_from_arrays([1], [BOX], [keypoints], areas=[3000], images=[ImageInfo(1, "one.png", 1000, 1000)])
    pack(dataset, folder, folder / "store", spec=CropSpec.for_view((96, 128), padding))
    config = PoseConfig(network="u-300m", codec=UdpDark(input_size=(96, 128)), box_padding=padding)
    return PoseTask(build("u-300m", 17), replace(config, augment=replace(config.augment, occlusion_chance=0)),
                    PeopleSets([open_store(folder / "store")]))


@pytest.mark.parametrize("padding", [0.5, 1.15, 1.25, 1.8, 2.5, 4.0])
def test_training_shows_as_much_around_a_person_as_prediction(tmp_path, padding):
    """Never a border of the canvas where the picture goes on, and but a few corners where it is augmented."""
    task = task_of_one(tmp_path, np.full((1000, 1000, 3), 255, np.uint8), padding)
    assert (task.plain(np.arange(1)) > 250).all()
    augmented = torch.cat([task.batch([(epoch, 0)]).images for epoch in range(40)])
    assert (augmented == 0).all(1).float().mean() < 0.02
    spec = CropSpec.for_view((96, 128), padding)
    assert (spec == CropSpec(input_size=(96, 128))) == (padding <= 1.25)  # whose stores are those of any version


@pytest.mark.parametrize("padding", [1.0, 1.25, 1.8])
def test_training_sees_the_pixels_that_prediction_does(tmp_path, padding):
    """In a soft picture, where half a pixel beside it changes them by more."""
    coarse = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (1000, 1000), interpolation=cv2.INTER_CUBIC)
    [seen] = task_of_one(tmp_path, picture, padding).plain(np.arange(1))
    predicted = crop_affine(fit_box(BOX, 96 / 128, padding), (96, 128)).warp(picture, (96, 128))
    assert np.abs(seen.permute(1, 2, 0).numpy() - predicted).max() <= 3


def test_a_training_of_a_wider_view_cuts_out_more(tmp_path):
    path = tiny_coco(tmp_path, images=1, people=1)
    assert main(["train", "u-300m", "--data", str(path), "--out", str(tmp_path / "run"), "--box-padding", "2.5",
                 "--input-size", "64", "64", "--batch", "1", "--steps", "1", "--threads", "1"]) == 0
    (store,) = (tmp_path / "crops").iterdir()
    assert open_store(store).spec == CropSpec(input_size=(64, 64), context=3.0)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Two people, of whom one has no legs in the picture; nobody's ears are labelled."""
    folder = tmp_path_factory.mktemp("portraits")
    path = tiny_coco(folder, images=1, people=2)
    data = json.loads(path.read_text())
    for number, person in enumerate(data["annotations"]):
        keypoints = np.reshape(person["keypoints"], (17, 3))
        keypoints[3:5] = 0
        keypoints[11:] *= number
        person |= {"keypoints": keypoints.ravel().tolist(), "num_keypoints": int((keypoints[:, 2] > 0).sum())}
    path.write_text(json.dumps(data))
    return open_or_pack(path, folder / "images", folder / "crops", spec=CropSpec(input_size=CODEC.input_size),
                        skeleton=COCO_17)


def test_heatmaps_of_joints_that_are_not_in_the_picture_become_flat(portraits):
    def height(absent):
        torch.manual_seed(0)
        config = PoseConfig(network="u-300m", codec=CODEC, augment=NO_AUGMENTATION, absent=absent)
        task = PoseTask(build(config.network, 17), config, PeopleSets([portraits]))
        optimizer = torch.optim.AdamW(task.model.parameters(), lr=2e-3)
        for _ in range(120):
            losses = task.loss(task.model, task.batch([(0, 0), (0, 1)]))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
        assert set(losses) == ({"heatmaps", "absent"} if absent else {"heatmaps"})
        rows = np.argsort(portraits.annotation_ids)
        with torch.no_grad():  # by the batch's own norms: 120 steps are too few for the running ones
            maps = task.model.heatmaps(task.model.logits(task.plain(rows))[-1][0])
        peaks = maps.flatten(2).amax(-1) / maps.flatten(2).mean(-1)  # 1 for a flat heatmap
        return peaks[0, 11:].mean(), peaks[1, 11:].mean()

    (absent, present), (untaught, _) = height(1.0), height(0.0)
    assert absent < 2 and untaught > 3 * absent and present > 3 * absent


def test_joints_that_a_set_never_labels_are_not_said_to_be_absent_from_its_pictures(portraits, store):
    data = PoseData([portraits, store], [1.0, 1.0], NO_AUGMENTATION)
    read = data.read([(0, position) for position in range(len(data))])
    of_store = data.sets[read.rows.numpy()]
    assert not read.named[of_store == 0][:, 3:5].any() and read.named[of_store == 1][:, 3:5].all()  # ears


def test_what_absent_joints_count_is_a_share():
    with pytest.raises(ConfigError, match=r"absent is -0\.1, expected 0"):
        PoseConfig(network="u-300m", codec=CODEC, absent=-0.1)


def test_people_count_what_they_are_said_to(store):
    config = PoseConfig(network="u-300m", codec=CODEC)
    kept = np.ones(4, dtype=bool)
    plain = losses(store, config)["heatmaps"]
    double = losses(store, config, Chosen(kept=kept, importance=np.full(4, 2, np.float32)))["heatmaps"]
    nobody = losses(store, config, Chosen(kept=kept, importance=np.zeros(4, np.float32)))["heatmaps"]
    assert torch.allclose(double, 2 * plain) and float(nobody.detach()) == 0


@pytest.mark.parametrize(("change", "message"), [
    ({"level_weights": (1.0,) * 5}, "level_weights has 5 levels, level_sigmas 4"),
    ({"init_std": -1.0}, "init_std is -1"), ({"coarse": (0.0, 1.0)}, "coarse is"),
    ({"gates": (80.0,)}, "gates is"), ({"stage_weights": (0.0,)}, "some stage"),
    ({"ohkm": (-1,)}, "ohkm"), ({"level_weights": (float("nan"), 1.0, 1.0, 1.0)}, "level_weights"),
    ({"stage_weights": (float("inf"), 1.0)}, "stage_weights"), ({"init_std": float("nan")}, "init_std is nan"),
])
def test_settings_that_make_no_sense(change, message):
    with pytest.raises(ConfigError, match=message):
        PoseConfig(network="u-300m", codec=CODEC, **change)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system can't be told to use one core")
def test_more_workers_than_cores_are_no_warning_of_torch(store, recwarn):
    """The user asked for them; torch's advice would be a second line beside an error's one."""
    task = PoseTask(build("u-300m", 17), PoseConfig(network="u-300m", codec=CODEC), PeopleSets([store]))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert len(list(Feed(task.reader, [[(0, 0)], [(0, 1)]], Machine(workers=2)))) == 2
    finally:
        os.sched_setaffinity(0, cores)
    assert not recwarn.list


def test_a_worker_sends_the_pixels_that_the_process_itself_looks_at_on_disk(store):
    task = PoseTask(build("u-300m", 17), PoseConfig(network="u-300m", codec=CODEC,
                                                    augment=AugmentConfig(occlusion_chance=0.7)), PeopleSets([store]))
    keys = [(0, 0), (0, 3), (1, 2), (4, 1)]
    [sent] = Feed(task.reader, [keys], Machine(workers=1))
    read = task.reader.read(keys)
    assert isinstance(sent.crops, torch.Tensor) and isinstance(sent.occluders, torch.Tensor)
    assert all(not crop.flags.writeable for crop in [*read.crops, *read.occluders])  # the mapped file
    assert torch.equal(task.prepare(sent).images, task.prepare(read).images)


def test_crops_of_another_shape_are_refused(store):
    """Their middle would be shown squeezed, and nothing would say so."""
    config = PoseConfig(network="u-300m", codec=UdpDark(input_size=(64, 96)))
    with pytest.raises(ConfigError, match=r"cut for an input of 64 x 64, .* the network's 64 x 96; .*\(64, 96\)"):
        PoseTask(build("u-300m", 17), config, PeopleSets([store]))


@pytest.mark.parametrize(("name", "ranks", "says"), [
    ("cuda", "2", "2 ranks on this machine, but device 'cuda' has 1 GPU"), ("cuda:0", "2", "'cuda:0' has one GPU"),
    ("auto", "2", "--nproc-per-node 1"), ("auto", "1", ""), ("cpu", "2", "")])
def test_every_rank_needs_a_gpu_of_its_own(monkeypatch, name, ranks, says):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    if not says:
        assert prepare_device(name, None) in ("cpu", "cuda:0")
        return
    with pytest.raises(ConfigError, match=says):
        prepare_device(name, None)
