"""A rewritten graph computes what it did before."""

from __future__ import annotations

import io

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from stagepose.training.graphs import padded_convolutions  # noqa: E402
from stagepose.training.networks.efficientnet_lite import SameConv2d  # noqa: E402


class Net(nn.Module):
    """Two SAME convolutions with stride, and a padding that something else reads as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first = SameConv2d(3, 4, 3, 2)
        self.second = SameConv2d(4, 4, 5, 2, groups=4)
        self.third = nn.Conv2d(4, 2, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.second(self.first(x))
        padded = functional.pad(maps, (0, 1, 0, 1))
        return self.third(padded) + padded.mean()


def plain_export(net: nn.Module, x: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.onnx.export(net.eval(), (x,), buffer, input_names=["x"], output_names=["y"], opset_version=17, dynamo=False,
                      dynamic_axes={"x": {2: "h", 3: "w"}})
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore")
def test_pads_go_into_convolutions_where_nobody_else_reads_them() -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.randn(1, 3, 32, 64)
    before = plain_export(net, x)
    after = padded_convolutions(before)
    kinds = [[node.op_type for node in onnx.load_model_from_string(data).graph.node] for data in (before, after)]
    assert [names.count("Pad") for names in kinds] == [3, 1] and kinds[1].count("Conv") == 3
    for size in ((32, 64), (96, 32)):
        picture = np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32)
        one, other = (onnxruntime.InferenceSession(data).run(None, {"x": picture})[0] for data in (before, after))
        np.testing.assert_allclose(one, other, atol=1e-6)


class Odd(nn.Module):
    """Paddings that no convolution can do: of other values, of a size that the picture decides, of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 3, 3, 2), nn.Conv2d(3, 3, 3), nn.Conv2d(5, 3, 1), nn.Conv2d(3, 3, 3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third, fourth = self.convs
        x = first(functional.pad(x, (0, 1, 0, 1), value=2.0))
        x = second(functional.pad(x, (0, -x.shape[3] % 8, 0, 0)))
        x = third(functional.pad(x, (0, 0, 0, 0, 1, 1)))
        return fourth(functional.pad(x, (1, 1, 1, 1), mode="reflect"))


@pytest.mark.filterwarnings("ignore")
def test_other_pads_are_left_alone() -> None:
    torch.manual_seed(0)
    before = plain_export(Odd(), torch.randn(1, 3, 32, 64))
    assert padded_convolutions(before) == onnx.load_model_from_string(before).SerializeToString()
