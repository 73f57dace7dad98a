"""How published code of this field feeds a pose network, written anew for comparisons.

As in the public training code of SimpleBaseline, HRNet, MSPN and mmpose: for every person of every epoch the whole
photo is decoded (OpenCV), mirrored as a whole, one affine cuts the person out (rotation, scale, half body; no changes
of colour), the crop is normalised on the CPU in float32 and laid out NCHW, targets are made in NumPy, and worker
processes do all this and send float32 batches. Training is float32 and NCHW. B samples, K keypoints, h w input size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from stagepose.coco import CocoDataset
from stagepose.geometry import fit_box
from stagepose.heatmaps import Codec

ROTATION, SCALE, HALF_BODY = 45.0, 0.35, 0.3  # HRNet's for COCO; turned with a chance of .6, mirrored with .5
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True)
class Sample:
    image: Tensor  # (3, h, w) float32, normalised
    targets: list[Tensor]  # (K, h', w') of each level
    labelled: Tensor  # (K,)


class Conventional(Dataset[Sample]):
    """A person a sample; ``seconds`` adds up what each part takes."""

    def __init__(self, dataset: CocoDataset, images_dir: Path, codecs: Sequence[Codec]) -> None:
        self.rows = np.flatnonzero(dataset.with_keypoints())
        self.dataset, self.images_dir, self.codecs = dataset, images_dir, list(codecs)
        self.size = codecs[0].input_size
        skeleton = dataset.skeleton
        self.flip = skeleton.flip_index
        self.halves = [np.array([name in half for name in skeleton.names]) for half in (skeleton.upper, skeleton.lower)]
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row, rng = self.rows[index], np.random.default_rng()
        start = process_time()
        name = self.dataset.image_by_id[int(self.dataset.image_ids[row])].file_name
        pixels = cv2.imread(str(self.images_dir / name), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert pixels is not None
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        start = self._took("decode", start)
        joints, box = self.dataset.keypoints[row].astype(np.float64), self.dataset.boxes_xyxy[row]
        if rng.random() < HALF_BODY:
            box = self._half(joints, box, rng)
        x1, y1, x2, y2 = fit_box(box, self.size[0] / self.size[1])
        centre, wide = np.array([(x1 + x2) / 2, (y1 + y2) / 2]), x2 - x1
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            joints[:, 0] = pixels.shape[1] - 1 - joints[:, 0]
            joints, centre[0] = joints[self.flip], pixels.shape[1] - 1 - centre[0]
        matrix = self._affine(centre, wide, rng)
        crop = cv2.warpAffine(pixels, matrix, self.size, flags=cv2.INTER_LINEAR)
        joints[:, :2] = joints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        start = self._took("affine and warp", start)
        normal = (crop.astype(np.float32) / 255 - MEAN) / STD
        image = torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))
        start = self._took("normalise", start)
        labelled = joints[:, 2] > 0
        targets = [torch.from_numpy(c.encode(joints[None, :, :2], labelled[None])[0]) for c in self.codecs]
        self._took("targets", start)
        return Sample(image, targets, torch.from_numpy(labelled.astype(np.float32)))

    def _took(self, part: str, start: float) -> float:
        now = process_time()
        self.seconds[part] += now - start
        return now

    def _half(self, joints_K3: NDArray[np.float64], box: NDArray[np.float64],
              rng: np.random.Generator) -> NDArray[np.float64]:
        chosen = self.halves[int(rng.random() < 0.5)] & (joints_K3[:, 2] > 0)
        if (joints_K3[:, 2] > 0).sum() <= 8 or chosen.sum() < 3:
            return box
        return np.concatenate([joints_K3[chosen, :2].min(0), joints_K3[chosen, :2].max(0) + 1])

    def _affine(self, centre: NDArray[np.float64], wide: float, rng: np.random.Generator) -> NDArray[np.float64]:
        zoom = self.size[0] / (wide * np.clip(1 + SCALE * rng.normal(), 1 - SCALE, 1 + SCALE))
        turn = np.clip(ROTATION * rng.normal(), -2 * ROTATION, 2 * ROTATION) if rng.random() < 0.6 else 0.0
        matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), turn, zoom)
        matrix[:, 2] += (np.array(self.size) - 1) / 2 - centre
        return np.asarray(matrix)


def collate(samples: list[Sample]) -> tuple[Tensor, list[Tensor], Tensor]:
    """-> images (B, 3, h, w), targets (B, K, h', w') of each level, labelled (B, K)."""
    levels = [torch.stack(level) for level in zip(*(s.targets for s in samples), strict=True)]
    return torch.stack([s.image for s in samples]), levels, torch.stack([s.labelled for s in samples])


def seed_workers(number: int) -> None:
    """One thread a worker, as all published code asks of OpenCV."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def steps(data: Conventional, network: nn.Module, loss_of: Callable[..., Tensor], optimizer: torch.optim.Optimizer, *,
          batch: int, count: int, workers: int, modern: bool = False) -> Iterator[tuple[float, float]]:
    """Train ``count`` steps -> for each the seconds of this process's processor time, and the seconds of a clock.

    ``modern``: bf16 and channels-last, which is not how such code is published.
    """
    loader = DataLoader(data, batch, shuffle=True, num_workers=workers, collate_fn=collate, drop_last=True,
                        worker_init_fn=seed_workers)
    layout = torch.channels_last if modern else torch.contiguous_format
    network.to(memory_format=layout).train()
    batches = forever(loader)
    for _ in range(count):
        cpu, clock = process_time(), perf_counter()
        images, levels, labelled = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=modern):
            loss = loss_of(network(images.contiguous(memory_format=layout)), levels, labelled)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield process_time() - cpu, perf_counter() - clock


def forever(loader: DataLoader[Any]) -> Iterator[Any]:
    """Epoch after epoch."""
    while True:
        yield from loader
