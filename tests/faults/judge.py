"""Judge a finder of the tiny people's colours, alone or as one of some ranks: ``judge.py LABELS.json OUT.json``."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stagepose.coco import read_dataset
from stagepose.evaluation.kept import UNJUDGED
from stagepose.heatmaps import Msra
from stagepose.training import distributed
from stagepose.training.validation import PoseValidation

COLOURS = np.random.default_rng(17).integers(0, 256, (64, 3))[:17]  # of tiny.draw_people


class ColourFinder(nn.Module):
    def forward(self, crops):
        colours = torch.as_tensor(COLOURS, dtype=torch.float32)
        far = (crops.float()[:, None] - colours[None, :, None, None]).square().sum(-1)
        return functional.avg_pool2d(torch.exp(-far / 2000), 5, stride=4, padding=2)


def main(labels, out):
    torch.set_num_threads(1)
    with distributed.started("cpu"):
        judge = PoseValidation(dataset=read_dataset(labels), images_dir=Path(labels).parent / "images",
                               codec=Msra(input_size=(96, 128)))
        metrics = judge(ColourFinder())
        if distributed.first():
            Path(out).write_text(json.dumps({"world": distributed.world(), **metrics.numbers}))
        else:
            assert metrics is UNJUDGED


if __name__ == "__main__":
    main(*sys.argv[1:])
