"""A model file becomes a trainable network again: what fine-tuning a shipped model starts from."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from tiny import tiny_coco

from stagepose.cli import main
from stagepose.errors import ModelError
from stagepose.heatmaps import UdpDark
from stagepose.modelinfo import ModelInfo, stamp
from stagepose.runtime import PoseModel, read_info
from stagepose.skeleton import COCO_17
from stagepose.training.checkpoint import load_weights
from stagepose.training.export import MAX_PARITY_ERROR, drawn_crops, export_pose
from stagepose.training.inference import NumpyHeatmaps, PoseInference
from stagepose.training.networks.blocks import BasicBlock
from stagepose.training.networks.hourglass import StackedHourglass
from stagepose.training.networks.resnet import ResNetTrunk, SlimStem
from stagepose.training.networks.simple import SimpleBaseline
from stagepose.training.networks.zoo import StageOptions, build
from stagepose.training.start import begin
from stagepose.training.trained import open_pose, open_taught, told_stages
from stagepose.training.unfold import rebuild, unfolded

CODEC = UdpDark(input_size=(96, 128))
INFO = ModelInfo(kind="pose", name="tiny", input_size=CODEC.input_size, skeleton=COCO_17, codec=CODEC)


def simple(keypoints):
    """A narrow row of transposed convolutions."""
    trunk = ResNetTrunk(block=BasicBlock, blocks=(1, 1, 1, 1), widths=(16, 16, 24, 32), in_channels=16)
    return SimpleBaseline(SlimStem(16), trunk, 32, keypoints=keypoints, width=24)


def hourglass(keypoints):
    """Two narrow, shallow stacks."""
    return StackedHourglass(keypoints, stacks=2, features=16, depth=2)


def network(name="slim-u", keypoints=17, seed=0):
    torch.manual_seed(seed)
    ours = {"simple": simple, "hourglass": hourglass}
    model = PoseInference(ours[name](keypoints) if name in ours else build(name, keypoints), CODEC, "kl")
    return lived(model, seed)


def lived(model, seed=0):
    """With batch norms that are not the identity."""
    pictures = torch.from_numpy(drawn_crops(CODEC.input_size, seed + 1)).permute(0, 3, 1, 2).float()
    for _ in range(30):
        model.train().logits(pictures)
    return model.eval()


def pictures(seed):
    return torch.from_numpy(drawn_crops(CODEC.input_size, seed)).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "tiny.onnx"
    export_pose(network(), path, INFO, bits=32)
    return path


def test_the_network_computes_what_the_file_computes(file):
    like = network(seed=5)
    before = {k: v.clone() for k, v in like.state_dict().items()}
    weights = unfolded(rebuild(file, like), [pictures(1), pictures(2)])
    assert all(torch.equal(v, before[k]) for k, v in like.state_dict().items())
    like.load_state_dict(weights)
    crops = drawn_crops(CODEC.input_size, 9)
    assert np.allclose(NumpyHeatmaps(like)(crops), NumpyHeatmaps(network())(crops), atol=1e-4)


def test_a_large_mean_does_not_lose_the_variance(file):
    rebuilt = rebuild(file, network(seed=5))
    [conv, norm] = [next(m for m in rebuilt.model.modules() if isinstance(m, kind))
                    for kind in (torch.nn.Conv2d, torch.nn.BatchNorm2d)]
    assert norm is rebuilt.norms[0] and conv.bias is None
    seen = []
    norm.register_forward_pre_hook(lambda _, inputs: (inputs[0] + 3000.0,))
    norm.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0].double()))
    unfolded(rebuilt, [pictures(1), pictures(2)])
    x = torch.cat(seen)
    torch.testing.assert_close(norm.running_var.double(), x.var((0, 2, 3), correction=0), rtol=1e-5, atol=0)
    torch.testing.assert_close(norm.running_mean.double(), x.mean((0, 2, 3)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("learnt", ["kl", "mse"])
@pytest.mark.parametrize("goes_on", ["kl", "mse"])
def test_a_file_is_compared_as_it_was_trained_and_not_as_it_goes_on(tmp_path, learnt, goes_on):
    path, theirs = tmp_path / "other.onnx", network()
    wide = replace(CODEC, sigma=3.0)
    theirs.read_as(wide, learnt)
    export_pose(theirs, path, replace(INFO, codec=wide), bits=32)
    like = network(seed=5)
    like.read_as(CODEC, goes_on)
    rebuilt = rebuild(path, like).model
    crops = drawn_crops(CODEC.input_size, 9)
    assert np.allclose(NumpyHeatmaps(rebuilt)(crops), PoseModel(path, threads=1)(crops), atol=1e-4)
    assert rebuilt.softmax == (learnt == "kl") and like.softmax == (goes_on == "kl")


def test_a_file_of_8_bits_becomes_a_network_as_well(tmp_path):
    path = tmp_path / "eighth.onnx"
    made = export_pose(network(), path, INFO, bits=8)
    assert 0.001 < made.max_difference < 0.6
    assert path.stat().st_size < 0.6 * export_pose(network(), tmp_path / "half.onnx", INFO).megabytes * 1e6
    crops = drawn_crops(CODEC.input_size, 9)
    found = NumpyHeatmaps(rebuild(path, network(seed=5)).model)(crops)
    assert np.allclose(found, PoseModel(path, threads=1)(crops), atol=1e-4)


def test_in_training_mode_too_on_the_pictures_it_was_measured_on(file):
    """Batch norm that merely undid the fold would rescale everything as soon as it sees a batch."""
    like = network(seed=5)
    like.load_state_dict(unfolded(rebuild(file, like), [pictures(1)]))
    evaluated = like.eval().logits(pictures(1))[-1][0]
    trained = like.train().logits(pictures(1))[-1][0]
    assert (trained - evaluated).abs().max() < 0.02 * (evaluated.max() - evaluated.min())


def exported_and_unfolded(name, folder, bits):
    """A network, and the one that its file becomes again, which computes what the file does."""
    path, mine = folder / f"{name}.onnx", network(name)
    export_pose(mine, path, INFO, bits=bits)
    like = network(name, seed=5)
    like.load_state_dict(unfolded(rebuild(path, like), [pictures(1), pictures(2)]))
    crops = drawn_crops(CODEC.input_size, 9)
    assert np.allclose(NumpyHeatmaps(like)(crops), PoseModel(path, threads=1)(crops), atol=1e-4)
    return mine, like


@pytest.mark.parametrize("bits", [16, 32])
def test_batch_norms_after_transposed_convolutions_are_taken_as_the_file_has_them(tmp_path, bits):
    mine, like = exported_and_unfolded("simple", tmp_path, bits)
    for layer, theirs in zip(like.network.up, mine.network.up, strict=True):
        for name, tensor in layer.state_dict().items():
            if name != "num_batches_tracked":
                torch.testing.assert_close(tensor, theirs.state_dict()[name], rtol=1e-3, atol=1e-4)
    trained, evaluated = (like.train(mode).logits(pictures(1))[-1][0] for mode in (True, False))
    assert torch.isfinite(trained).all() and not torch.equal(trained, evaluated)


@pytest.mark.parametrize("bits", [16, 32])
def test_batch_norms_before_convolutions_are_taken_as_the_file_has_them(tmp_path, bits):
    """An hourglass's: those behind a sum stand in the file, those behind a convolution were folded into it."""
    mine, like = exported_and_unfolded("hourglass", tmp_path, bits)
    for own, theirs in zip(like.network.stem[1].body[0][0].state_dict().items(),
                           mine.network.stem[1].body[0][0].state_dict().items(), strict=True):
        if own[0] != "num_batches_tracked":
            torch.testing.assert_close(own[1], theirs[1], rtol=1e-3, atol=1e-4)


def row(reading, **join):
    """Two stages in a row, neither of which is the identity."""
    torch.manual_seed(0)
    model = PoseInference(build("2xu-300m", 17, StageOptions(**join)), CODEC, "kl", reading=reading, route_below=0.5)
    for stage in model.network.stages:
        for head in stage.heads:
            torch.nn.init.normal_(head.out.weight, std=0.1)
    return lived(model)


def longer_row(keypoints, **join):
    return PoseInference(build("3xu-300m", keypoints, StageOptions(**join)), CODEC, "kl")


@pytest.mark.parametrize(("join", "reading"), [
    ({"concat_heatmaps": True}, "last"), ({"residual": True}, "last"), ({"aggregate": True}, "last"),
    ({"residual": True, "aggregate": True}, "mean"), ({}, "router"), ({}, "last")])
def test_a_row_of_stages_is_made_again_as_it_was_joined(tmp_path, join, reading):
    path, mine, crops = tmp_path / "row.onnx", row(reading, **join), drawn_crops(CODEC.input_size, 9)
    about = replace(INFO, network="2xu-300m", stages=told_stages(mine, "2xu-300m"))
    export_pose(mine, path, about, bits=32)
    again = open_taught(str(path)).model
    assert np.allclose(NumpyHeatmaps(again)(crops), NumpyHeatmaps(mine)(crops), atol=1e-4)
    longer = longer_row(17, **join)
    assert "start fresh, network.stages.2" in begin(longer, str(path), skeleton=COCO_17, batches=lambda: [pictures(1)],
                                                    make=lambda count: longer_row(count, **join))
    assert torch.equal(longer.network.stages[1].heads[0].out.weight, mine.network.stages[1].heads[0].out.weight)
    export_pose(mine, path, replace(about, stages={}), bits=32)  # as older versions wrote it
    if join or reading != "last":
        with pytest.raises(ModelError, match=r"row\.onnx: an older file, which does not tell how the stages of its "
                                             r"2xu-300m are joined.*; use its run folder"):
            open_taught(str(path))
    else:
        assert np.allclose(NumpyHeatmaps(open_taught(str(path)).model)(crops), NumpyHeatmaps(mine)(crops), atol=1e-4)
    export_pose(mine, path, replace(about, stages={"join": {"glue": True}}), bits=32)
    with pytest.raises(ModelError, match=r"stages \{'join': \{'glue': True\}\} can't be made again by this version"):
        open_taught(str(path))


def test_export_tells_how_a_row_is_joined(tmp_path):
    path, run, file = tiny_coco(tmp_path, images=2), tmp_path / "run", tmp_path / "row.onnx"
    assert main(["train", "2xu-300m", "--data", str(path), "--out", str(run), "--batch", "2", "--steps", "1",
                 "--input-size", "64", "64", "--threads", "1", "--join", "concat-heatmaps"]) == 0
    assert main(["export", str(run), "--out", str(file)]) == 0
    assert read_info(str(file)).stages == {
        "count": 2, "join": {"concat_heatmaps": True, "residual": False, "aggregate": False}}
    crops = drawn_crops((64, 64), 9)
    expected = NumpyHeatmaps(open_pose(run).model)(crops)
    assert np.abs(NumpyHeatmaps(open_taught(str(file)).model)(crops) - expected).max() < 0.01 * expected.max()


def test_a_quantized_file_is_refused_by_name(file, tmp_path):
    model = onnx.load(file)
    graph = model.graph
    conv = next(node for node in graph.node if node.op_type == "Conv")
    graph.node.insert(0, onnx.helper.make_node("Neg", [conv.input[1]], ["made"]))
    conv.input[1] = "made"
    path = tmp_path / "quantized.onnx"
    path.write_bytes(stamp(model.SerializeToString(), INFO))
    with pytest.raises(ModelError, match=r"quantized\.onnx: computes its weights 'made' itself, as quantized files do"):
        rebuild(path, network())


def test_another_architecture_is_refused(file):
    with pytest.raises(ModelError, match=r"tiny\.onnx: .* convolutions that are not those .* of the same preset$"):
        rebuild(file, network("lite0-u"))
    with pytest.raises(ModelError, match=r"of the same preset and 14 keypoints, not 17$"):
        rebuild(file, network(keypoints=14))


class Scaled(torch.nn.Module):
    """A convolution, and a layer that no model file gives back."""

    def __init__(self):
        super().__init__()
        self.patches, self.layer = torch.nn.Conv2d(3, 17, 4, 4), torch.nn.LayerNorm(17)

    def forward(self, images):
        return [[self.layer(self.patches(images).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)]]


def test_a_network_of_more_than_convolutions_is_sent_to_its_run_folder(tmp_path):
    def scaled():
        return PoseInference(Scaled(), CODEC, "kl").eval()

    mine, path = scaled(), tmp_path / "mine.onnx"
    torch.nn.init.uniform_(mine.network.layer.weight, 1, 5)
    export_pose(mine, path, INFO, bits=32)
    with pytest.raises(ModelError, match=r"mine\.onnx: .* learns network\.layer\.weight too: give its run folder$"):
        rebuild(path, scaled())


def test_training_starts_from_a_model_file(file, tmp_path, capsys):
    path = tiny_coco(tmp_path, images=2)
    command = ["train", "pose-slim", "--data", str(path), "--out", str(tmp_path / "run"), "--batch", "2",
               "--steps", "1", "--input-size", "96", "128", "--threads", "1", "--lr", "1e-9"]
    assert main([*command, "--init", str(file)]) == 0
    err = capsys.readouterr().err
    assert "starts from " in err and "tensors taken, 0 start fresh" in err
    mine, theirs = load_weights(tmp_path / "run"), network().state_dict()
    name = "network.stages.0.heads.0.out.weight"
    assert torch.allclose(mine[name], theirs[name], atol=1e-5)
    assert main(["train", "pose-slim", "--data", str(path), "--out", str(tmp_path / "other"), "--steps", "1",
                 "--init", str(tmp_path / "none.onnx")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_a_network_that_has_more_goes_on_from_a_file_that_has_less(tmp_path, capsys):
    """The blocks that it has and lite0-u has not begin as the identity."""
    path = tiny_coco(tmp_path, images=2)
    command = ["train", "lite0-u1g", "--data", str(path), "--out", str(tmp_path / "run"), "--batch", "2", "--steps",
               "1", "--input-size", "192", "256", "--threads", "1", "--lr", "1e-9"]
    assert main([*command, "--init", "pose-small"]) == 0
    assert "368 of 434 tensors taken, 66 start fresh, network.stages.0.up.refine" in capsys.readouterr().err
    crops = drawn_crops((192, 256), 3)
    expected = PoseModel("pose-small", threads=1)(crops)
    found = NumpyHeatmaps(open_pose(tmp_path / "run").model)(crops)
    assert np.abs(found - expected).max() < MAX_PARITY_ERROR * expected.max()
    slim = ["train", "pose-slim", "--data", str(path), "--out", str(tmp_path / "slim"), "--steps", "1"]
    assert main([*slim, "--init", "pose-small"]) == 1
    assert "convolutions that are not those of this network" in capsys.readouterr().err
