"""Where people might be (region proposals), and who is one (the box head): torchvision's, made for recall.

Both learn as torchvision's do, except that a crowd is never learned as background. What they hand on at test time is
written here: :class:`~stagepose.training.detector.config.Keeping` decides. N images, A anchors of a cell, H W map size,
R regions; boxes are xyxy in pixels of the padded network input.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import box_iou, clip_boxes_to_image, nms

from stagepose.training.detector.config import DetectorConfig
from stagepose.training.detector.pooling import AlignedPooler

IGNORED_OVERLAP = 0.5  # a region more than half inside a crowd is neither person nor background
TRAIN_PER_LEVEL = 800  # anchors of a level that are considered in training

Target = dict[str, Tensor]  # boxes (P, 4) float32, labels (P,) int64 from 1, ignore (Q, 4) float32
Losses = dict[str, Tensor]
Found = dict[str, Tensor]  # boxes (n, 4), scores (n,)


class _FloatRPNHead(RPNHead):  # type: ignore[misc]
    """Under bf16 autocast the convolutions are bf16; scores and box arithmetic after them stay float32."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        scores, deltas = super().forward(x)
        return [s.float() for s in scores], [d.float() for d in deltas]


class _FloatPredictor(FastRCNNPredictor):  # type: ignore[misc]
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, deltas = super().forward(x)
        return scores.float(), deltas.float()


class Proposals(RegionProposalNetwork):  # type: ignore[misc]
    """``forward(maps, (height, width), targets)`` -> (boxes of every image, losses)."""

    def __init__(self, config: DetectorConfig) -> None:
        anchors = AnchorGenerator(config.anchor_sizes, (config.anchor_ratios,) * len(config.anchor_sizes))
        super().__init__(
            anchors, _FloatRPNHead(config.width, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7, bg_iou_thresh=0.3, batch_size_per_image=config.anchors_per_image, positive_fraction=0.5,
            pre_nms_top_n={"training": TRAIN_PER_LEVEL, "testing": config.keeping.per_level},
            post_nms_top_n={"training": config.proposals_train, "testing": config.keeping.proposals},
            nms_thresh=config.keeping.proposal_nms)
        self.strides = (*config.strides, 2 * config.strides[-1])

    def forward(self, maps: list[Tensor], size_hw: tuple[int, int],
                targets: list[Target] | None = None) -> tuple[list[Tensor], Losses]:
        scores, deltas = self.head(maps)
        anchors = self._anchors(maps)
        boxes = [self._best([s[i] for s in scores], [d[i] for d in deltas], anchors, size_hw)
                 for i in range(maps[0].shape[0])]
        if targets is None or not self.training:
            return boxes, {}
        labels, matched = self.assign(torch.cat(anchors), targets, size_hw)
        wanted = self.box_coder.encode(matched, [torch.cat(anchors)] * len(targets))
        flat = concat_box_prediction_layers(scores, deltas)
        learnt = any(bool((label >= 0).any()) for label in labels)
        objectness, regression = self.compute_loss(*flat, labels, wanted) if learnt else _no_losses(*flat)
        return boxes, {"loss_objectness": objectness, "loss_rpn_box_reg": regression}

    def _anchors(self, maps: list[Tensor]) -> list[Tensor]:
        """(H W A, 4) of every level. The level's true stride, where torchvision divides padded sizes by map sizes."""
        self.anchor_generator.set_cell_anchors(maps[0].dtype, maps[0].device)
        strides = [[maps[0].new_tensor(s, dtype=torch.int64)] * 2 for s in self.strides]
        found: list[Tensor] = self.anchor_generator.grid_anchors([m.shape[-2:] for m in maps], strides)
        return found

    @torch.no_grad()
    def _best(self, scores: list[Tensor], deltas: list[Tensor], anchors: list[Tensor],
              size_hw: tuple[int, int]) -> Tensor:
        """(R, 4) the best boxes of one image, best first. NMS does not compare boxes of two levels."""
        boxes, chances, shifts = [], [], []
        apart = float(2**14)  # farther than any picture is wide
        for level, (score, delta, anchor) in enumerate(zip(scores, deltas, anchors, strict=True)):
            flat = score.permute(1, 2, 0).reshape(-1)
            moves = delta.reshape(-1, 4, *delta.shape[-2:]).permute(2, 3, 0, 1).reshape(-1, 4)
            best = flat.topk(_at_most(self.pre_nms_top_n(), flat))[1]
            decoded = self.box_coder.decode_single(moves[best], anchor[best])
            boxes.append(clip_boxes_to_image(decoded, size_hw))
            chances.append(flat[best])
            shifts.append(torch.full_like(flat[best], level * apart))
        whole, chance = torch.cat(boxes), torch.cat(chances)
        kept = nms(whole + torch.cat(shifts)[:, None], chance, self.nms_thresh)
        return whole[kept[: self.post_nms_top_n()]]

    def assign(self, anchors: Tensor, targets: list[Target],
               size_hw: tuple[int, int]) -> tuple[list[Tensor], list[Tensor]]:
        """torchvision's labels (1 person, 0 background, -1 neither) and boxes of every image's anchors.

        But background inside a crowd is not learned as background. What of an anchor lies beyond the picture cannot
        be in a crowd and does not count: large anchors reach far out.
        """
        labels, matched = self.assign_targets_to_anchors([anchors] * len(targets), targets)
        seen = clip_boxes_to_image(anchors, size_hw)
        for label, target in zip(labels, targets, strict=True):
            label[(label == 0) & inside_any(seen, target["ignore"])] = -1.0
        return labels, matched


class BoxHead(RoIHeads):  # type: ignore[misc]
    """:meth:`losses` for training, :meth:`people` for one picture at test time.

    There the head looks at the best boxes a second time, where it put them, and a box that is kept becomes the mean of
    those that say nearly the same (Gidaris & Komodakis 2015, iterative localisation and box voting): better boxes
    without training.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__(
            AlignedPooler(strides=config.strides, size=config.pool, samples=config.samples),
            TwoMLPHead(config.width * config.pool**2, config.head_width),
            _FloatPredictor(config.head_width, config.categories + 1),
            fg_iou_thresh=0.5, bg_iou_thresh=0.5, batch_size_per_image=config.regions_per_image,
            positive_fraction=0.33, bbox_reg_weights=None, score_thresh=config.keeping.floor,
            nms_thresh=config.keeping.nms, detections_per_img=config.keeping.most)
        self.second_looks, self.blend = config.keeping.second_looks, config.keeping.blend

    def losses(self, maps: dict[str, Tensor], proposals: list[Tensor], targets: list[Target]) -> Losses:
        """torchvision's two losses."""
        regions, _, labels, wanted = self.select_training_samples(proposals, targets)
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(maps, regions)))
        learnt = any(len(label) for label in labels)
        classes, regression = fastrcnn_loss(logits, deltas, labels, wanted) if learnt else _no_losses(logits, deltas)
        return {"loss_classifier": classes, "loss_box_reg": regression}

    def people(self, maps: dict[str, Tensor], boxes_R4: Tensor, size_hw: tuple[int, int]) -> Found:
        """The people of one image among its proposals, best first."""
        chances, boxes = self._look(maps, boxes_R4, size_hw)
        if self.second_looks:
            order = chances.argsort(descending=True)
            chances, boxes = chances[order], boxes[order]
            some = self.second_looks
            again, moved = self._look(maps, boxes[:some], size_hw)
            chances = torch.cat([(chances[:some] + again) / 2, chances[some:]])
            boxes = torch.cat([moved, boxes[some:]])
        whole = (boxes[:, 2:] > boxes[:, :2]).all(1)  # others were moved out of the picture and clipped to nothing
        likely = torch.where((chances > self.score_thresh) & whole)[0]
        chances, boxes = chances[likely], boxes[likely]
        kept = nms(boxes, chances, self.nms_thresh)[: self.detections_per_img]
        found = _blended(boxes[kept], boxes, chances, self.blend) if self.blend else boxes[kept]
        return {"boxes": found, "scores": chances[kept]}

    def _look(self, maps: dict[str, Tensor], boxes_R4: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(R,) how likely each region is a person, and (R, 4) where that person would be.

        Of the other categories nothing is kept: cats and cars take no place among the best.
        """
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(maps, [boxes_R4])))
        moved = self.box_coder.decode_single(deltas[:, 4:8], boxes_R4)
        return torch.softmax(logits, -1)[:, 1], clip_boxes_to_image(moved, size_hw)

    def select_training_samples(self, proposals: list[Tensor], targets: list[Target]) -> tuple[list[Tensor], ...]:
        """torchvision's, without the regions inside a crowd that hold no known person."""
        kept = []
        for boxes, target in zip(proposals, targets, strict=True):
            person = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
            if len(target["boxes"]):
                person = box_iou(boxes, target["boxes"]).amax(1) >= IGNORED_OVERLAP
            kept.append(boxes[person | ~inside_any(boxes, target["ignore"])])
        return super().select_training_samples(kept, targets)  # type: ignore[no-any-return]


def _blended(kept_n4: Tensor, boxes_R4: Tensor, chances_R: Tensor, width: float) -> Tensor:
    """The mean of the boxes around each kept one, (n, 4); weights fall with the distance 1 - IoU as a bell.

    Smoothly, so that no rounding decides who takes part: the exported file finds the same.
    """
    distances = (1 - box_iou(kept_n4, boxes_R4)) / width
    weights = torch.exp(-distances * distances) * chances_R
    return weights @ boxes_R4 / weights.sum(1, keepdim=True)


def _no_losses(logits: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    """Of pictures that are ignored as a whole: a mean over nothing would be NaN. Every weight stays in the graph."""
    return logits.sum() * 0, deltas.sum() * 0


def inside_any(boxes_R4: Tensor, regions_Q4: Tensor) -> Tensor:
    """Which boxes lie more than :data:`IGNORED_OVERLAP` inside one of the regions, (R,) bool."""
    if not len(regions_Q4):
        return torch.zeros(len(boxes_R4), dtype=torch.bool, device=boxes_R4.device)
    low = torch.maximum(boxes_R4[:, None, :2], regions_Q4[None, :, :2])
    high = torch.minimum(boxes_R4[:, None, 2:], regions_Q4[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    area = (boxes_R4[:, 2:] - boxes_R4[:, :2]).prod(-1).clamp(min=1e-6)
    return (overlap / area[:, None]).amax(1) > IGNORED_OVERLAP


def _at_most(count: int, values: Tensor) -> int:
    """``count``, or as many as there are; a tensor while tracing, so that the graph fits any picture."""
    if not torch.onnx.is_in_onnx_export():
        return min(count, len(values))
    have = torch._shape_as_tensor(values)[0]
    return cast(int, torch.minimum(have, have.new_tensor(count)))
