"""A validation that tests start in processes of its own, alone or under torchrun: ``judging_ranks.py SET.json OUT``."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stagepose.coco import read_dataset
from stagepose.heatmaps import UdpDark
from stagepose.training import distributed
from stagepose.training.validation import PoseValidation

COLOURS = np.random.default_rng(17).integers(0, 256, (64, 3))[:17]  # of the joints that tiny.py draws


class ColourFinder(nn.Module):
    """Finds the joints of stick people by their colours: well, but not always."""

    def forward(self, crops_NHW3):
        pixels = crops_NHW3.permute(0, 3, 1, 2).double()
        colours = torch.from_numpy(COLOURS).double()
        squared = ((pixels[:, None] - colours[None, :, :, None, None]) ** 2).sum(2)
        return nn.functional.avg_pool2d(torch.exp(-squared / 500), 4).float()


def main(file, out):
    torch.set_num_threads(1)
    with distributed.started("cpu"):
        dataset = read_dataset(file)
        judge = PoseValidation(dataset=dataset, images_dir=Path(file).parent / "images",
                               codec=UdpDark(input_size=(192, 256)), flip=True)
        metrics = judge(ColourFinder())
        if distributed.first():
            Path(out).write_text(json.dumps({"ranks": distributed.world(), **metrics.numbers}))


if __name__ == "__main__":
    main(*sys.argv[1:])
