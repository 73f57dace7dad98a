"""The person detector's network: an ImageNet trunk, a feature pyramid, region proposals, a small box head.

Source: the report, section 3.1 (FPN with RoIAlign; high recall, not high precision, is wanted); the parts are
torchvision's, RoIAlign with aligned=True. N images, R regions, C channels, H W map size; boxes are xyxy in pixels
of the padded network input.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, box_iou, clip_boxes_to_image, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from stagepose.errors import ConfigError
from stagepose.training.networks.efficientnet_lite import EfficientNetLite, load_imagenet

PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0  # how EfficientNet-Lite's ImageNet weights were trained
LEVEL_STRIDES = (8, 16, 32)  # C3..C5 of the trunk: P2 would cost as much as the rest of the pyramid together
STRIDE_MULTIPLE = 32  # sides of the network's input are multiples of the coarsest trunk stride
IGNORED_OVERLAP = 0.5  # a region more than half inside a crowd is neither person nor background

Target = dict[str, Tensor]  # boxes (P, 4) float32, labels (P,) int64 from 1, ignore (Q, 4) float32
Losses = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Everything that decides the network's shape and what it keeps; sizes in pixels of the network's input.

    ``categories`` 1 is people alone, 80 all of COCO (person first); only people are ever handed on.
    ``frozen_blocks`` counts the trunk's first blocks (of 16) that keep their ImageNet weights; 0 trains all.
    """

    categories: int = 1
    pretrained: bool = True
    frozen_blocks: int = 5
    width: int = 96
    head_width: int = 256
    pool: int = 7
    long_side: int = 480  # at test time; training shows pictures at its own, cheaper scale
    anchor_sizes: tuple[tuple[int, ...], ...] = ((14, 24), (40, 64), (104, 160), (230, 330))  # P3..P6
    anchor_ratios: tuple[float, ...] = (0.8, 1.6, 3.0)  # height / width: sitting, cropped, standing
    proposals_train: int = 400
    proposals_test: int = 180
    passes: int = 2  # looks of the box head at test time, each at the boxes of the one before; scores are averaged
    regions_per_image: int = 64
    score_floor: float = 0.02
    nms_iou: float = 0.7  # people overlap: the usual 0.5 loses the one behind
    most: int = 100

    def __post_init__(self) -> None:
        if self.categories < 1:
            raise ConfigError(f"categories is {self.categories}, expected at least 1 (people)")
        if len(self.anchor_sizes) != len(LEVEL_STRIDES) + 1:
            raise ConfigError(f"anchor_sizes names {len(self.anchor_sizes)} levels, expected "
                              f"{len(LEVEL_STRIDES) + 1} (P3 to P6)")
        if self.frozen_blocks and not self.pretrained:
            raise ConfigError(f"frozen_blocks is {self.frozen_blocks} but the trunk starts from noise; set it to 0")
        if self.passes < 1:
            raise ConfigError(f"passes is {self.passes}, expected at least 1")
        if self.long_side % STRIDE_MULTIPLE:
            raise ConfigError(f"long_side is {self.long_side}, expected a multiple of {STRIDE_MULTIPLE}")


class Trunk(nn.Module):
    """EfficientNet-Lite0, (N, 3, H, W) normalised images -> [C3, C4, C5].

    Pretrained: batch norm keeps its ImageNet statistics and is folded into the convolutions (the same function,
    a third less work), and the first blocks run without gradients. From noise: ordinary batch norm, all trained.
    """

    def __init__(self, *, pretrained: bool, frozen_blocks: int) -> None:
        super().__init__()
        self.net = EfficientNetLite(0)
        self.out_channels: list[int] = list(self.net.out_channels[1:])
        self.frozen_blocks = frozen_blocks
        if pretrained:
            load_imagenet(self.net)
            fold_batch_norm(self.net)
        if frozen_blocks:
            for part in (self.net._conv_stem, *self.net._blocks[:frozen_blocks]):
                part.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        net, maps = self.net, []
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_blocks):
            x = net.relu(net._bn0(net._conv_stem(images)))
        for i, block in enumerate(net._blocks):
            with torch.set_grad_enabled(torch.is_grad_enabled() and i >= self.frozen_blocks):
                x = block(x)
            if i in net._taps[1:]:
                maps.append(x)
        return maps


def fold_batch_norm(net: EfficientNetLite) -> None:
    """Put each batch norm's statistics and scale into the convolution before it; the norm becomes an identity."""
    pairs: list[tuple[nn.Module, str, str]] = [(net, "_conv_stem", "_bn0")]
    for block in net._blocks:
        pairs += [(block, "_expand_conv", "_bn0"), (block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for owner, conv_name, norm_name in pairs:
        conv, norm = getattr(owner, conv_name), getattr(owner, norm_name)
        if conv is None:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        setattr(owner, norm_name, nn.Identity())


class AlignedPooler(nn.Module):
    """RoIAlign with aligned=True, each region from the pyramid level that fits its size.

    Level k takes regions of side sqrt(w * h) in [canonical / 2, canonical) for the second coarsest level, and so on
    by halves and doubles (Lin et al. 2017, equation 1, with the scale fitted to this input size).
    """

    def __init__(self, *, names: Sequence[str], strides: Sequence[int], size: int, canonical: float = 160.0) -> None:
        super().__init__()
        self.names, self.strides, self.size, self.canonical = tuple(names), tuple(strides), size, canonical

    def levels(self, boxes_R4: Tensor) -> Tensor:
        """Index into ``strides`` of every region, (R,) int64."""
        sides = ((boxes_R4[:, 2] - boxes_R4[:, 0]) * (boxes_R4[:, 3] - boxes_R4[:, 1])).clamp(min=1e-6).sqrt()
        top = len(self.strides) - 1
        return (torch.log2(sides / self.canonical + 1e-6).floor() + top).clamp(0, top).long()

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor], image_sizes: list[tuple[int, int]]) -> Tensor:
        """Regions of all images, one after the other -> (R, C, size, size)."""
        batch = torch.cat([b.new_full((len(b), 1), i) for i, b in enumerate(boxes)]) if len(boxes) > 1 \
            else torch.zeros_like(boxes[0][:, :1])
        regions = torch.cat([batch, torch.cat(boxes)], 1)
        levels = self.levels(regions[:, 1:])
        pooled, rows = [], []
        for i, (name, stride) in enumerate(zip(self.names, self.strides, strict=True)):
            chosen = torch.where(levels == i)[0]
            pooled.append(roi_align(maps[name], regions[chosen], self.size, 1 / stride, sampling_ratio=2, aligned=True))
            rows.append(chosen)
        return torch.cat(pooled)[torch.argsort(torch.cat(rows))]


class _FloatRPNHead(RPNHead):  # type: ignore[misc]
    """Under bf16 autocast the convolutions are bf16; scores and box arithmetic after them stay float32."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        scores, deltas = super().forward(x)
        return [s.float() for s in scores], [d.float() for d in deltas]


class _FloatPredictor(FastRCNNPredictor):  # type: ignore[misc]
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, deltas = super().forward(x)
        return scores.float(), deltas.float()


class _Proposals(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's, but background inside a crowd is not learned as background."""

    def assign_targets_to_anchors(self, anchors: list[Tensor],
                                  targets: list[Target]) -> tuple[list[Tensor], list[Tensor]]:
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            label[(label == 0) & inside_any(anchor, target["ignore"])] = -1.0
        return labels, matched


class _BoxHead(RoIHeads):  # type: ignore[misc]
    """torchvision's, with three changes: crowds are not learned as background, only people come out, and at test time

    the head looks ``passes`` times (Gidaris & Komodakis 2015, iterative localisation): better boxes without training.
    """

    passes = 1

    def forward(self, maps: dict[str, Tensor], proposals: list[Tensor], image_sizes: list[tuple[int, int]],
                targets: list[Target] | None = None) -> tuple[list[dict[str, Tensor]], Losses]:
        if self.training:
            return super().forward(maps, proposals, image_sizes, targets)  # type: ignore[no-any-return]
        chances: list[Tensor] = []
        deltas = torch.zeros(0)
        for _ in range(self.passes):
            if chances:
                moved = self.box_coder.decode(deltas, proposals)[:, 1].split([b.shape[0] for b in proposals])
                proposals = [clip_boxes_to_image(b, s) for b, s in zip(moved, image_sizes, strict=True)]
            logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(maps, proposals, image_sizes)))
            chances.append(torch.softmax(logits, -1))
        mean = torch.stack(chances).mean(0).clamp(min=1e-12)
        boxes, scores, _ = self.postprocess_detections(mean.log(), deltas, proposals, image_sizes)
        return [{"boxes": b, "scores": s} for b, s in zip(boxes, scores, strict=True)], {}

    def select_training_samples(self, proposals: list[Tensor], targets: list[Target]) -> tuple[list[Tensor], ...]:
        kept = []
        for boxes, target in zip(proposals, targets, strict=True):
            person = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
            if len(target["boxes"]):
                person = box_iou(boxes, target["boxes"]).amax(1) >= IGNORED_OVERLAP
            kept.append(boxes[person | ~inside_any(boxes, target["ignore"])])
        return super().select_training_samples(kept, targets)  # type: ignore[no-any-return]

    def postprocess_detections(self, class_logits: Tensor, box_regression: Tensor, proposals: list[Tensor],
                               image_shapes: list[tuple[int, int]]) -> tuple[list[Tensor], ...]:
        """People alone, so that cats and cars take no place among the best; the person's probability is kept."""
        person = torch.softmax(class_logits, -1)[:, 1].clamp(1e-6, 1 - 1e-6)
        logits = torch.stack([torch.log1p(-person), torch.log(person)], 1)
        return super().postprocess_detections(  # type: ignore[no-any-return]
            logits, box_regression[:, :8], proposals, image_shapes)


def inside_any(boxes_R4: Tensor, regions_Q4: Tensor) -> Tensor:
    """Which boxes lie more than :data:`IGNORED_OVERLAP` inside one of the regions, (R,) bool."""
    if not len(regions_Q4):
        return torch.zeros(len(boxes_R4), dtype=torch.bool, device=boxes_R4.device)
    low = torch.maximum(boxes_R4[:, None, :2], regions_Q4[None, :, :2])
    high = torch.minimum(boxes_R4[:, None, 2:], regions_Q4[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    area = (boxes_R4[:, 2:] - boxes_R4[:, :2]).prod(-1).clamp(min=1e-6)
    return (overlap / area[:, None]).amax(1) > IGNORED_OVERLAP


class Detector(nn.Module):
    """``forward(images (N, 3, H, W) RGB 0..255, targets)`` -> (results per image, losses).

    As in torchvision, training mode fills the losses and eval mode the results: people as ``{boxes (n, 4), scores
    (n,)}`` with boxes in pixels of ``images``, best first. H and W must be multiples of 32.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        names = [str(i) for i in range(len(LEVEL_STRIDES))]
        self.trunk = Trunk(pretrained=config.pretrained, frozen_blocks=config.frozen_blocks)
        self.pyramid = FeaturePyramidNetwork(self.trunk.out_channels, config.width, LastLevelMaxPool())
        ratios = (config.anchor_ratios,) * len(config.anchor_sizes)
        anchors = AnchorGenerator(config.anchor_sizes, ratios)
        self.proposals = _Proposals(
            anchors, _FloatRPNHead(config.width, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7, bg_iou_thresh=0.3, batch_size_per_image=256, positive_fraction=0.5,
            pre_nms_top_n={"training": 800, "testing": 400},
            post_nms_top_n={"training": config.proposals_train, "testing": config.proposals_test}, nms_thresh=0.7)
        self.head = _BoxHead(
            AlignedPooler(names=names, strides=LEVEL_STRIDES, size=config.pool),
            TwoMLPHead(config.width * config.pool**2, config.head_width),
            _FloatPredictor(config.head_width, config.categories + 1),
            fg_iou_thresh=0.5, bg_iou_thresh=0.5, batch_size_per_image=config.regions_per_image,
            positive_fraction=0.33, bbox_reg_weights=None, score_thresh=config.score_floor,
            nms_thresh=config.nms_iou, detections_per_img=config.most)
        self.head.passes = config.passes

    def maps(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """The pyramid P3..P6 (names "0", "1", "2", "pool") in float32, ``width`` channels each."""
        trunk = self.trunk((images - PIXEL_MEAN) / PIXEL_SCALE)
        pyramid = self.pyramid(OrderedDict((str(i), c) for i, c in enumerate(trunk)))
        return OrderedDict((name, p.float()) for name, p in pyramid.items())

    def forward(self, images: Tensor, targets: list[Target] | None = None) -> tuple[list[dict[str, Tensor]], Losses]:
        height, width = images.shape[-2:]
        sizes = [(height, width)] * len(images)
        maps = self.maps(images)
        boxes, proposal_losses = self.proposals(ImageList(images, sizes), maps, targets)
        results, head_losses = self.head(maps, boxes, sizes, targets)
        return results, {**proposal_losses, **head_losses}
