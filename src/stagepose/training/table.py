"""Who is found how well: the table of the training people that stage-by-stage training picks from.

P people of all stores, K keypoints.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagepose import files
from stagepose.errors import ConfigError, DatasetError
from stagepose.oks import oks_of_person
from stagepose.training import distributed
from stagepose.training.inference import PoseInference
from stagepose.training.people import PoseData
from stagepose.training.pose import PoseTask
from stagepose.training.store import CropStore

BATCH = 64  # people looked at together
TEXTS = ("stores", "fingerprints")  # columns that are no arrays of numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A row a training person, in the order of the stores; (P,) each."""

    stage: int  # after which
    stores: tuple[str, ...]  # folders of the crops
    fingerprints: tuple[str, ...]  # of their people
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
        return cls(stage=stage, stores=tuple(str(store.home.resolve()) for store in data.stores),
                   fingerprints=tuple(store.fingerprint for store in data.stores), sets=data.sets,
                   image_ids=np.concatenate([store.image_ids for store in data.stores]),
                   annotation_ids=np.concatenate([store.annotation_ids for store in data.stores]),
                   oks=oks, scores=scores, visible=(seen > 0).sum(1), hidden=(seen == 1).sum(1))

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        columns |= {name: np.frombuffer(json.dumps(columns[name]).encode(), np.uint8) for name in TEXTS}
        buffer = io.BytesIO()
        np.savez(buffer, **columns)
        files.write_bytes(path, buffer.getvalue())

    @classmethod
    def read(cls, path: Path) -> Table:
        """:class:`DatasetError` for what is no table."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                columns = {f.name: archive[f.name] for f in fields(cls)}
            texts = {name: tuple(json.loads(columns[name].tobytes())) for name in TEXTS}
        except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{path}: not a table of people that a stage has judged ({error}); delete it and start "
                               "the same command again") from error
        return cls(**{**columns, **texts, "stage": int(columns["stage"])})

    def check(self, stores: Sequence[CropStore], path: Path) -> None:
        """:class:`DatasetError` where it is not about the people of ``stores``."""
        if self.fingerprints != tuple(store.fingerprint for store in stores):
            raise DatasetError(f"{path}: a table of other people than {', '.join(s.home.name for s in stores)} holds;"
                               " their labels or pictures have changed. Start a new run folder")

    def score_at(self, oks: float) -> float:
        """The mean peak at which a straight line through all people predicts ``oks``: a router's threshold."""
        spread_out = len(self.scores) > 1 and float(np.ptp(self.scores)) > 0
        slope, start = np.polyfit(self.scores, self.oks, 1) if spread_out else (0.0, 0.0)
        if slope <= 0:
            raise ConfigError("the peaks' heights of the training people say nothing of their OKS, so a router has "
                              "nothing to decide by; train stage 1 longer, or use reading last or mean")
        return float((oks - start) / slope)


@torch.no_grad()  # not inference_mode: a model that is moved to its device in there takes no weights ever after
def examine(task: PoseTask, rows_P: NDArray[np.int64]) -> NDArray[np.float64]:
    """(2, P) OKS and mean joint score of people whom the task's network sees without augmentation.

    Decoded by the codec that users get. The ranks share the work; all get the whole.
    """
    mine = distributed.share(rows_P.tolist())
    task.model.to(task.device)
    model, codec, data = task.model.eval(), task.config.codec, task.reader
    found = [np.zeros((2, 0))]
    for start in range(0, len(mine), BATCH):
        rows = np.array(mine[start : start + BATCH], dtype=np.int64)
        maps = model.heatmaps(model.logits(task.plain(rows))[-1][0]).cpu().numpy()
        points, scores = codec.decode(maps, task.skeleton.sigmas)
        corners = np.zeros((len(rows), 4))  # of the box that people without labelled joints are measured by: none here
        oks = oks_of_person(data.keypoints[rows], data.areas[rows], corners, task.plain_points(points),
                            np.array(task.skeleton.sigmas))
        found.append(np.stack([oks, scores.mean(1)]))
    return np.concatenate([part for parts in distributed.gather(found) for part in parts], axis=1)


@torch.no_grad()
def recalibrate(model: PoseInference, task: PoseTask, rows_P: NDArray[np.int64]) -> None:
    """Measure the batch norms of ``model`` that ``task`` has trained anew, on the people of ``rows_P``.

    They learnt on the hard ones only, and their running statistics with them; everybody goes through them.
    """
    own = {name: m for name, m in task.model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    norms = [cast(nn.BatchNorm2d, model.get_submodule(n)) for n, m in own.items() if m.weight.requires_grad]
    before = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
        norm.train()
    for images in plain_batches(task, rows_P):
        model.logits(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()


def plain_batches(task: PoseTask, rows_P: NDArray[np.int64]) -> Iterator[Tensor]:
    """Pictures (b, 3, h, w) of people without augmentation."""
    for start in range(0, len(rows_P), BATCH):
        yield task.plain(rows_P[start : start + BATCH])
