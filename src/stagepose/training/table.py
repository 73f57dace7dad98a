"""Who is found how well: the table of the training people that stage-by-stage training picks from.

P people of all stores, K keypoints.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagepose import files
from stagepose.errors import DatasetError
from stagepose.oks import oks_of_person
from stagepose.training import distributed
from stagepose.training.inference import PoseInference
from stagepose.training.people import PoseData
from stagepose.training.pose import PoseTask

BATCH = 64  # people looked at together


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A row a training person, in the order of the stores; (P,) each."""

    stage: int  # after which
    stores: tuple[str, ...]  # folders of the crops
    sets: NDArray[np.int64]  # the number of each person's store
    image_ids: NDArray[np.int64]
    annotation_ids: NDArray[np.int64]
    oks: NDArray[np.float64]
    scores: NDArray[np.float64]  # mean peak of the joints, which a router sees in OKS's place
    visible: NDArray[np.int64]  # labelled joints
    hidden: NDArray[np.int64]  # those of them with v = 1

    @classmethod
    def of(cls, data: PoseData, *, stage: int, oks: NDArray[np.float64], scores: NDArray[np.float64],
           ) -> Table:
        """What ``oks`` and ``scores`` say of the people of ``data``."""
        seen = data.keypoints[..., 2]
        return cls(stage=stage, stores=tuple(str(store.home.resolve()) for store in data.stores), sets=data.sets,
                   image_ids=np.concatenate([store.image_ids for store in data.stores]),
                   annotation_ids=np.concatenate([store.annotation_ids for store in data.stores]),
                   oks=oks, scores=scores, visible=(seen > 0).sum(1), hidden=(seen == 1).sum(1))

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("stage", "stores")}
        buffer = io.BytesIO()
        np.savez(buffer, stage=self.stage, stores=np.frombuffer(json.dumps(self.stores).encode(), np.uint8), **columns)
        files.write_bytes(path, buffer.getvalue())

    @classmethod
    def read(cls, path: Path) -> Table:
        """:class:`DatasetError` for what is no table."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                columns = {f.name: archive[f.name] for f in fields(cls)}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{path}: not a table of people that a stage has judged ({error}); delete it and start "
                               "the same command again") from error
        stores = tuple(json.loads(columns["stores"].tobytes()))
        return cls(**{**columns, "stage": int(columns["stage"]), "stores": stores})

    def score_at(self, oks: float) -> float:
        """The mean peak at which a straight line through all people predicts ``oks``: a router's threshold."""
        slope, start = np.polyfit(self.scores, self.oks, 1)
        return float((oks - start) / slope) if slope > 0 else 0.0


@torch.inference_mode()
def examine(task: PoseTask, rows_P: NDArray[np.int64]) -> NDArray[np.float64]:
    """(2, P) OKS and mean joint score of people whom the task's network sees without augmentation.

    Decoded by the codec that users get. The ranks share the work; all get the whole.
    """
    mine = distributed.share(rows_P.tolist())
    model, codec, data = task.model.eval(), task.config.codec, task.reader
    found = [np.zeros((2, 0))]
    for start in range(0, len(mine), BATCH):
        rows = np.array(mine[start : start + BATCH], dtype=np.int64)
        maps = model.heatmaps(model.logits(task.plain(rows))[-1][0]).cpu().numpy()
        points, scores = codec.decode(maps)
        corners = np.zeros((len(rows), 4))  # of the box that people without labelled joints are measured by: none here
        oks = oks_of_person(data.keypoints[rows], data.areas[rows], corners, task.plain_points(points),
                            np.array(task.skeleton.sigmas))
        found.append(np.stack([oks, scores.mean(1)]))
    return np.concatenate([part for parts in distributed.gather(found) for part in parts], axis=1)


@torch.no_grad()
def recalibrate(model: PoseInference, parts: Iterable[nn.Module], task: PoseTask, people: int) -> None:
    """Measure the batch norms of ``parts`` anew, on so many people spread evenly over all sets.

    They learnt on the hard ones only, and their running statistics with them; everybody goes through them.
    """
    norms = [m for part in parts for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
        norm.train()
    for images in spread(task, people):
        model.logits(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()


def spread(task: PoseTask, people: int) -> Iterable[Tensor]:
    """Pictures (b, 3, h, w) of people evenly spread over all sets, without augmentation."""
    rows = np.unique(np.linspace(0, len(task.reader) - 1, min(people, len(task.reader))).astype(np.int64))
    for start in range(0, len(rows), BATCH):
        yield task.plain(rows[start : start + BATCH])
