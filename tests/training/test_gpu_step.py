"""What a step does on a GPU, followed without one: tensors without numbers, on a device that need not be there."""

import itertools
import traceback
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tiny import tiny_coco
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from stagepose.heatmaps import Msra, UdpDark, UdpOks
from stagepose.skeleton import COCO_17
from stagepose.training import loop, machine
from stagepose.training.augment import AugmentConfig, looks
from stagepose.training.augment.motion import warp
from stagepose.training.crops import CropSpec, open_or_pack
from stagepose.training.detector.task import DetectorTask
from stagepose.training.gan.build import fresh
from stagepose.training.gan.losses import PoseFinder
from stagepose.training.gan.task import RepairConfig, RepairTask
from stagepose.training.inference import PoseInference
from stagepose.training.loop import TrainConfig
from stagepose.training.machine import Machine
from stagepose.training.networks.zoo import build
from stagepose.training.people import PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig

from .detector.small import detector, tiny_data
from .gan.drawn import drawn_coco

SIZE = (64, 64)
EVERYTHING = AugmentConfig(occlusion_chance=1, blur_chance=1, coarse_chance=1, jpeg_chance=1, noise_chance=1,
                           stretch_chance=1, grey_chance=1)


class Products(TorchDispatchMode):
    """Notes products of matrices, which a GPU is let to compute with 11 bits of its numbers (TF32)."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, _types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        if name in ("mm", "bmm", "addmm", "baddbmm"):
            self.found.append(name)
        return operation(*args, **kwargs or {})


class Waits(TorchDispatchMode):
    """Notes the lines at which numbers go to the GPU, or come from it, and the processor waits until it is done.

    It then waits for all work that the GPU was given before, so that there is nothing left for it to do meanwhile.
    """

    def __init__(self):
        super().__init__()
        self.lines = []

    def __torch_dispatch__(self, operation, _types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = operation(*args, **kwargs)
        name = operation.overloadpacket.__name__
        copied = name == "_to_copy" and out.device != args[0].device and not kwargs.get("non_blocking")
        if copied or name in ("_local_scalar_dense", "nonzero"):
            ours = [f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in traceback.extract_stack()
                    if "/stagepose/" in f.filename]
            self.lines.append(ours[-1])
        return out


@contextmanager
def a_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)  # its grid_sample says nothing about shapes
    monkeypatch.setattr(machine, "bf16_supported", lambda _: True)
    kept = looks._noise, looks._matrices
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        for each in kept:  # tensors without numbers are of no use to others
            each.cache_clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    path = tiny_coco(folder, images=2, people=2)
    return open_or_pack(path, folder / "images", folder / "crops", spec=CropSpec(input_size=SIZE), skeleton=COCO_17)


@pytest.mark.filterwarnings("ignore:.*autocast:UserWarning")  # torch says that there is no GPU
@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("config", [
    PoseConfig(network="2xu-300m", codec=UdpOks(input_size=SIZE), gates=(0.8,), augment=EVERYTHING),
    PoseConfig(network="2xu-300m", codec=UdpDark(input_size=SIZE), gates=(0.8,), loss="mse", upsample=True),
    PoseConfig(network="2xu-300m", codec=Msra(input_size=SIZE), gates=(0.8,), ohkm=(0, 8)),
], ids=lambda config: config.codec.name)
def test_nothing_of_a_step_waits_for_the_gpu_before_the_next_batch_is_read(store, config, resident, monkeypatch):
    with a_gpu(monkeypatch):
        with torch.device("cuda"):
            network = build(config.network, 17)
            pixels = torch.empty((len(store), *store.spec.canvas[::-1], 3), dtype=torch.uint8) if resident else None
        task = PoseTask(network, config, PeopleSets([store], canvases=pixels), device="cuda")
        losses_of = loop._Losses(task, TrainConfig(samples=4), Machine(device="cuda"))
        read = task.reader.read([(0, position) for position in range(4)]).to("cuda")
        with Waits() as waits:
            losses = losses_of(task.prepare(read))
            verdict = loop._verdict(next(iter(losses.values())), losses, stop=True)
        assert all(loss.is_cuda for loss in itertools.chain([verdict], losses.values()))
    assert not waits.lines


def test_a_detectors_batch_is_ready_without_waiting(tmp_path, monkeypatch):
    """Its step waits where torchvision asks who is background; the next batch is read and sent before that."""
    data = tiny_data(tmp_path)
    with a_gpu(monkeypatch):
        with torch.device("cuda"):
            task = DetectorTask(detector(), data, device="cuda")
        read = task.reader.read([(0, 0), (0, 1)]).to("cuda")
        with Waits() as waits:
            batch = task.prepare(read)
        assert all(tensor.is_cuda for tensor in [batch.images, *(t for each in batch.targets for t in each.values())])
    assert not waits.lines


def test_nothing_of_a_repair_waits_for_the_gpu(tmp_path, monkeypatch):
    drawn_coco(tmp_path, 24)
    pose = PoseConfig(network="u-300m", codec=UdpDark(input_size=SIZE))
    config = RepairConfig(size=(48, 64), widths=(8, 16), critic_width=8, features=0)  # whose trunk is another network
    people = open_or_pack(tmp_path / "person_keypoints.json", tmp_path / "images", tmp_path / "crops",
                          spec=CropSpec(input_size=config.size), skeleton=COCO_17)
    with a_gpu(monkeypatch):
        with torch.device("cuda"):
            model, judge = fresh(config, COCO_17), PoseInference(build(pose.network, 17), pose.codec, pose.loss)
        finder = PoseFinder(judge, pose.codec, COCO_17.sigmas, "")
        task = RepairTask(model, config, PeopleSets([people]), device="cuda", finder=finder)
        read = task.reader.read([(0, position) for position in range(4)]).to("cuda")
        with Waits() as waits:
            losses = task.loss(model, task.prepare(read))
        assert {"pixels", "adversary", "critic", "pose"} == set(losses)
        assert all(loss.is_cuda for loss in losses.values())
    assert not waits.lines


def test_pixels_are_fetched_from_where_single_precision_says():
    """With 11 bits a canvas 432 pixels wide would be off by up to .28 pixels, and its keypoints would not."""
    canvases = torch.zeros((2, 24, 18, 3), dtype=torch.uint8)
    with Products() as products:
        warp(canvases, np.tile(np.eye(2, 3), (2, 1, 1)), (12, 16))
    assert not products.found


def test_numbers_of_a_second_gpu_are_waited_for_on_its_own_stream(monkeypatch):
    waited_for = []

    class Event:
        def record(self, stream=None):
            waited_for.append(stream)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    with a_gpu(monkeypatch):
        machine.later(torch.ones(2, device="cuda:1"))
    assert waited_for == ["stream of cuda:1"]
