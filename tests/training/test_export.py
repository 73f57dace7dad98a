"""A network of attention becomes a model file, and what cannot become one is named in one line."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from stagepose.errors import ModelError
from stagepose.heatmaps import Megvii, UdpDark, UdpOks
from stagepose.modelinfo import ModelInfo
from stagepose.skeleton import COCO_17
from stagepose.training.export import drawn_crops, export_pose, parity, torch_to_onnx
from stagepose.training.inference import NumpyHeatmaps, PoseInference
from stagepose.training.networks.zoo import build

CODEC = UdpDark(input_size=(64, 96))


class TinyViT(nn.Module):
    """Patches of 16 pixels, two of torch's own attention layers, and four times as large maps of them."""

    def __init__(self, keypoints: int, width: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.places = nn.Parameter(torch.randn(1, 6 * 4, width) / 10)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True) for _ in range(2))
        self.up = nn.ConvTranspose2d(width, width, 4, 4)
        self.out = nn.Conv2d(width, keypoints, 1)

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        maps = self.patches(images)
        tokens = maps.flatten(2).transpose(1, 2) + self.places
        for layer in self.layers:
            tokens = layer(tokens)
        return [[self.out(self.up(tokens.transpose(1, 2).reshape(maps.shape)).relu())]]


def exported(model: nn.Module, crops: Tensor) -> bytes:
    return torch_to_onnx(model, (crops,), inputs=["crops"], outputs=["heatmaps"],
                         dynamic={"crops": {0: "people"}, "heatmaps": {0: "people"}})


def test_torchs_own_attention_is_exported_and_says_the_same_of_any_number_of_people():
    torch.manual_seed(0)
    model = PoseInference(TinyViT(3), CODEC, "kl").eval()
    crops = drawn_crops(CODEC.input_size)
    data = exported(model, torch.from_numpy(crops))
    assert torch.backends.mha.get_fastpath_enabled()
    for count in (1, 4):
        assert parity(data, {"crops": crops[:count]}, [NumpyHeatmaps(model)(crops[:count])]) < 1e-3


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize(("network", "codec"), [("slim-u", UdpOks(input_size=(64, 96))),
                                                ("2xu-300m", Megvii(input_size=(96, 64)))])
def test_a_file_declares_its_crops_and_heatmaps_with_their_sizes(network, codec, bits, tmp_path):
    """The exporter alone would call the heatmaps' height what it calls the number of people."""
    torch.manual_seed(0)
    model = PoseInference(build(network, 17), codec, "kl").eval()
    info = ModelInfo(kind="pose", name="n", skeleton=COCO_17, codec=codec, input_size=codec.input_size)
    written = export_pose(model, tmp_path / "n.onnx", info, bits=bits).path.read_bytes()
    graph, (w, h) = onnx.load_model_from_string(written).graph, codec.input_size
    declared = {value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
                for value in (*graph.input, *graph.output)}
    assert declared == {"crops": ["people", h, w, 3], "heatmaps": ["people", 17, h // 4, w // 4]}
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    for count in (1, 5):
        heatmaps, = session.run(None, {"crops": np.zeros((count, h, w, 3), np.uint8)})
        assert heatmaps.shape == (count, 17, h // 4, w // 4)


class Strange(nn.Module):
    """Computes ``what``, which ONNX has no operator for."""

    def __init__(self, what) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.what(x)


def test_what_the_exporter_writes_wrongly_is_told_in_one_line_too():
    data = exported(Strange(lambda x: x.movedim(1, -1).movedim(-1, 1)), torch.rand(2, 3, 8, 7))
    with pytest.raises(ModelError, match=r"ONNX Runtime does not take .*Transpose.*: build what does this") as told:
        parity(data, {"crops": np.zeros((2, 3, 8, 7), np.float32)}, [np.zeros((2, 3, 8, 7), np.float32)])
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(("what", "named"), [
    (lambda x: torch.special.i0(x), "aten::i0"),
    (lambda x: nn.functional.adaptive_avg_pool2d(x, (3, 5)), "adaptive_avg_pool2d, output size"),
    (lambda x: x.unfold(1, x.shape[0], 1), "unfold: "),  # the exporter dies of a TypeError in it
])
def test_what_cannot_be_exported_is_named_in_one_line(what, named, capfd):
    with pytest.raises(ModelError, match=f"cannot be written as ONNX: .*{named}.*build what does this") as told:
        exported(Strange(what), torch.rand(2, 3, 8, 7))
    assert len(str(told.value).splitlines()) == 1
    assert capfd.readouterr() == ("", ""), "the exporter prints the whole graph"
