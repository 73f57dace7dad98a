"""The person detector's network: a trunk, a feature pyramid, region proposals, a small box head.

Source: the report, section 3.1 (FPN with RoIAlign; high recall, not high precision, is wanted). The parts are
torchvision's; what comes out at test time is ours, since only people do. N images, R regions, C channels, H W map size;
boxes are xyxy in pixels of the padded network input.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from stagepose.training.detector.config import DetectorConfig
from stagepose.training.detector.heads import BoxHead, Found, Losses, Proposals, Target
from stagepose.training.detector.trunks import TRUNKS
from stagepose.training.networks.efficientnet_lite import PIXEL_MEAN, PIXEL_SCALE


class Detector(nn.Module):
    """``forward(images (N, 3, H, W) RGB 0..255, targets)`` -> (results per image, losses).

    Training mode fills the losses, eval mode the results: people's boxes (n, 4) in pixels of ``images`` and their
    scores (n,), best first. H and W must be multiples of 32. ``filled`` says that all weights are about to be put in:
    a pretrained trunk then needs no package that holds ImageNet's.
    """

    def __init__(self, config: DetectorConfig, *, filled: bool = False) -> None:
        super().__init__()
        self.config = config
        self.trunk = TRUNKS[config.trunk].build(config.pretrained, config.frozen_blocks, filled)
        self.pyramid = FeaturePyramidNetwork(self.trunk.out_channels, config.width, LastLevelMaxPool())
        self.proposals = Proposals(config)
        self.head = BoxHead(config)

    def maps(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """The pyramid, finest level first, in float32, ``width`` channels each."""
        trunk = self.trunk((images - PIXEL_MEAN) / PIXEL_SCALE)
        pyramid = self.pyramid(OrderedDict((str(i), c) for i, c in enumerate(trunk)))
        return OrderedDict((name, p.float()) for name, p in pyramid.items())

    def forward(self, images: Tensor, targets: list[Target] | None = None) -> tuple[list[Found], Losses]:
        height, width = images.shape[-2:]
        maps = self.maps(images)
        proposals, proposal_losses = self.proposals(list(maps.values()), (height, width), targets)
        if targets is not None and self.training:
            return [], {**proposal_losses, **self.head.losses(maps, proposals, targets)}
        return [self.head.people({name: level[i : i + 1] for name, level in maps.items()}, boxes, (height, width))
                for i, boxes in enumerate(proposals)], {}
