"""Stage-by-stage training: every stage learns the people whom the stages before it do not find.

The report (section 3.2.3.2): stage 1 sees all samples; stage 2 those whose OKS after stage 1 is below 0.8; stage 3
those whose OKS after stage 2 is below 0.6, so that later stages see the harder poses, which are rare, and do not
overfit the normal ones. Here each stage is an ordinary run of the one training loop, on a network that is one stage
longer and begins with the weights of the stage before:

    for stage in 1, 2, 3:
        people  = everybody, or whom the table of the stage before picks
        network = trained(stage more on the network before, people)
        table   = OKS of everybody after this stage

Two things that the report does not say decide whether the table means anything. A network's OKS on people it has learnt
from is flattered, and what is left below a threshold then is mostly label noise: so the OKS of a person comes from a
network that has not seen its picture (``folds``; weights that the first stage begins with may have). And batch norms
that saw hard people only are wrong for everybody else: they are measured anew on all people before a stage is done.

P training people of all sets, in the order of their stores.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from stagepose import files
from stagepose.errors import ConfigError
from stagepose.evaluation.kept import OF_STAGE, Judged
from stagepose.runfiles import STAGES
from stagepose.training import checkpoint, distributed, loop
from stagepose.training.crops import CropStore
from stagepose.training.inference import PoseInference
from stagepose.training.loop import TrainConfig
from stagepose.training.machine import Machine
from stagepose.training.networks.multistage import MultiStage
from stagepose.training.networks.zoo import row_length
from stagepose.training.people import Chosen, PeopleSets, spread
from stagepose.training.pose import PoseJudge, PoseTask
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.randomness import generator
from stagepose.training.runfolder import open_run
from stagepose.training.start import fresh
from stagepose.training.table import Table, examine, recalibrate

log = logging.getLogger(__name__)

Pick = Literal["hard", "random", "all"]
FOLD_STREAM, RANDOM_STREAM, EASY_STREAM = 2**61, 2**61 + 1, 2**61 + 2  # of random numbers, far from any sample's


@dataclass(frozen=True, kw_only=True)
class StagesConfig:
    """Who goes on to each later stage, and what becomes of the stages before. One value a later stage."""

    thresholds: tuple[float, ...] = (0.8, 0.6)  # OKS below which a person goes on; the report's
    shares: tuple[float, ...] = ()  # instead: the hardest share of each set, for networks that find few at 0.8
    pick: Pick = "hard"  # the others are controls: as many people at random, or everybody
    by_difficulty: bool = False  # everybody who goes on counts 1 - OKS
    easy_share: float = 0.0  # share of a later stage's people who are easy ones, so that they are not forgotten
    folds: int = 2  # networks that judge people they have not seen; 0 the report's letter: judged by what learnt them
    earlier: Literal["frozen", "tuned"] = "frozen"  # stages before the one that is trained
    earlier_lr: float = 0.1  # share of the learning rate at which they are tuned
    samples: tuple[int, ...] = ()  # shown to each later stage; as many as to the first without it
    recalibrate: int = 4096  # people, spread over all sets, that late batch norms are measured on; 0 leaves them

    def __post_init__(self) -> None:
        if not all(0 < limit <= 1 for limit in (*self.thresholds, *self.shares)):
            raise ConfigError(f"thresholds {self.thresholds} and shares {self.shares} must be above 0 and at most 1")
        if self.folds == 1 or self.folds < 0:
            raise ConfigError(f"folds is {self.folds}, expected 2 or more, or 0 to judge people by what learnt them")
        if not 0 <= self.easy_share < 1 or (self.easy_share and self.pick != "hard"):
            raise ConfigError(f"easy_share is {self.easy_share} with pick {self.pick!r}; expected at least 0 and below "
                              "1, and only beside hard people")
        if not 0 < self.earlier_lr <= 1:
            raise ConfigError(f"earlier_lr is {self.earlier_lr}, expected above 0 and at most 1")
        if self.recalibrate < 0 or not all(count > 0 for count in self.samples):
            raise ConfigError(f"recalibrate is {self.recalibrate} and samples {self.samples}; expected none below 0")

    def check(self, stages: int) -> None:
        """:class:`ConfigError` where it does not say something of each of ``stages`` stages."""
        limits = self.shares or self.thresholds
        if stages < 2 or len(limits) < stages - 1:
            raise ConfigError(f"{stages} stages have {max(stages - 1, 0)} later ones, but there are limits for "
                              f"{len(limits)}: {limits}; give one for each later stage, and a network of 2 or more")
        if self.samples and len(self.samples) != stages - 1:
            raise ConfigError(f"samples has {len(self.samples)} values, expected {stages - 1}, one a later stage")


@dataclass(frozen=True, kw_only=True)
class StagedTraining:
    """A stage-by-stage run: what is trained, on whom, and where it is kept.

    ``out/stages/T/`` is the run folder of stage T, ``T.safetensors`` its finished weights, ``T.npz`` the table after
    it; ``T-foldF`` the same of the networks that only judge. What is finished is not done again.
    """

    pose: PoseConfig
    train: TrainConfig
    config: StagesConfig
    sets: PeopleSets
    out: Path
    machine: Machine = field(default_factory=Machine)
    validation: PoseJudge | None = None
    first: checkpoint.Tensors | None = None  # what stage 1 begins with, from another keypoint set for instance
    init: str | None = None  # sha256 of the weights that ``first`` was made of
    accept_changes: bool = False
    stages: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", self.pose.stages or row_length(self.pose.network))
        self.config.check(self.stages)
        if self.pose.gates or self.pose.stage_weights:
            raise ConfigError("gates and stage_weights are for stages that train together; stage by stage sets its own")
        self._refuse_empty_folds()

    def run(self) -> Path:
        """Train every stage -> the finished weights of the last."""
        people = Chosen.everybody(self.sets.stores)
        described = self._task(1, None, people).describe() | {
            "kind": "stages", "row": self.stages, "stages": asdict(self.config), "train": asdict(self.train),
            "each_stage": {"coarse": self.pose.coarse, "ohkm": self.pose.ohkm}}  # the task tells but the first's
        with open_run(self.out, described, self.accept_changes):
            for stage in range(1, self.stages):
                self._refuse_idle_judges(stage, people)
                for fold in (None, *range(self.config.folds)):
                    self.train_stage(stage, fold, people)
                table = self.table_after(stage)
                people = chosen(table, stage + 1, self.config, self.train.seed)
                log.info("stage %d: %d of %d people go on", stage + 1, people.kept.sum(), len(people.kept))
            self.train_stage(self.stages, None, people)
        return self._weights_file(self.stages, None)

    def _refuse_empty_folds(self) -> None:
        """:class:`ConfigError` where there are more folds than pictures: a fold of nobody judges nobody."""
        pictures = len(_pictures(self.sets.stores)[0])
        if self.config.folds > pictures:
            raise ConfigError(f"folds is {self.config.folds}, but the people to learn from are on {pictures} pictures, "
                              "and a picture is not parted; give fewer folds, or 0 to judge people by what learnt them")

    def _refuse_idle_judges(self, stage: int, people: Chosen) -> None:
        """:class:`ConfigError` where all who go on are of one fold: who judges it has nobody to learn from."""
        if not self.config.folds:
            return
        fold_P = folds_by_picture(self.sets.stores, self.config.folds, self.train.seed)
        if len(np.unique(fold_P[people.kept])) == 1:
            raise ConfigError(f"stage {stage}: whoever goes on ({people.kept.sum()} of {len(people.kept)} people) is "
                              f"in one fold of {self.config.folds}, so the network that judges it has nobody to learn "
                              "from; use --folds 0 with --accept-changes, or a new folder and higher thresholds or "
                              "shares")

    def train_stage(self, stage: int, fold: int | None, people: Chosen) -> None:
        """One stage of the network that ships, or of one that only judges ``fold``, which it does not see."""
        done = self._weights_file(stage, fold)
        if distributed.from_first(done.is_file):
            return
        seen_P, share = np.ones(len(people.kept), dtype=bool), 1.0
        if fold is not None:
            seen_P = folds_by_picture(self.sets.stores, self.config.folds, self.train.seed) != fold
            people = replace(people, kept=people.kept & seen_P)
            share = 1 - 1 / self.config.folds  # its people are shown as often as the whole network's
        samples = self.config.samples[stage - 2] if stage > 1 and self.config.samples else self.train.samples
        samples = round(samples * share)
        task = self._task(stage, fold, people)
        late = stage > 1
        train = replace(self.train, samples=samples, warmup=round(self.train.warmup * samples / self.train.samples),
                        slower=earlier_slower(stage, self.config) if late else self.train.slower)
        log.info("stage %d%s: %d people", stage, "" if fold is None else
                 f", the network that judges fold {fold + 1} of {self.config.folds}", people.kept.sum())
        model = loop.train(task, train, done.with_suffix(""), self.machine, accept_changes=self.accept_changes)
        assert isinstance(model, PoseInference)
        if late and self.config.recalibrate:
            recalibrate(model, task, spread(np.flatnonzero(seen_P), self.config.recalibrate))
            judged = task.evaluate(model)  # once more: the loop judged before the batch norms were measured
        else:
            judged = Judged(checkpoint.judged(done.with_suffix("")))

        def write() -> None:
            if judged.results is not None:
                judged.results.write(done.with_suffix(OF_STAGE))
            if judged.numbers:
                files.write_json(done.with_suffix(".json"), {**judged.numbers, "people": int(people.kept.sum())})
            files.write_bytes(done, checkpoint.packed(model.state_dict()))

        distributed.from_first(write)

    def table_after(self, stage: int) -> Table:
        """The OKS of everybody after ``stage``, each person judged by a network that has not seen its picture."""
        path = self.out / STAGES / f"{stage}.npz"
        known = distributed.from_first(lambda: Table.read(path) if path.is_file() else None)
        if known is not None:
            known.check(self.sets.stores, path)
            return known
        everybody = Chosen.everybody(self.sets.stores)
        task = self._task(stage, None, everybody)
        found = np.zeros((2, len(everybody.kept)))  # OKS and mean joint score
        fold_P = folds_by_picture(self.sets.stores, self.config.folds, self.train.seed)
        for fold in range(self.config.folds) if self.config.folds else [None]:
            rows = np.flatnonzero(fold_P == fold) if fold is not None else np.arange(len(everybody.kept))
            checkpoint.fill(task.model, self._finished(stage, fold) or {}, str(self.out))
            found[:, rows] = examine(task, rows)
        table = Table.of(task.reader, stage=stage, oks=found[0], scores=found[1])
        distributed.from_first(lambda: table.save(path))
        return table

    def _task(self, stage: int, fold: int | None, people: Chosen) -> PoseTask:
        """The network with ``stage`` stages, its last one new, the others as the stage before left them."""
        frozen = stage > 1 and self.config.earlier == "frozen"
        weights = (0.0,) * (stage - 1) + (1.0,) if frozen else (1.0,) * stage
        pose = replace(self.pose, stages=stage, stage_weights=weights, gates=(), coarse=self.pose.coarse[:stage],
                       ohkm=self.pose.ohkm[:stage], frozen=0 if frozen else self.pose.frozen)
        torch.manual_seed(self.train.seed)
        network = fresh(pose.network, len(self.sets.skeleton), pose.join, stages=stage,
                        imagenet=pose.imagenet and stage == 1 and self.init is None and self.first is None,
                        std=pose.init_std)
        task = PoseTask(network, pose, self.sets, seed=self.train.seed, chosen=people,
                        validation=self.validation if fold is None else None, device=self.machine.device,
                        init=self.init)
        before = self.first if stage == 1 else self._finished(stage - 1, fold)
        if before is not None:
            log.info(checkpoint.fill_matching(task.model, before, f"stage {stage}"))
        if frozen:
            assert isinstance(network, MultiStage)
            network.freeze_stages(stage - 1)
        return task

    def _weights_file(self, stage: int, fold: int | None) -> Path:
        name = f"{stage}" if fold is None else f"{stage}-fold{fold}"
        return self.out / STAGES / f"{name}.safetensors"

    def _finished(self, stage: int, fold: int | None) -> checkpoint.Tensors | None:
        """The weights of a finished network, as the first rank finds them; None where it is not done."""
        file = self._weights_file(stage, fold)
        return distributed.from_first(lambda: checkpoint.load_weights(file) if file.is_file() else None)


def first_networks(out: Path, folds: int) -> list[Path]:
    """The run folders of what a stage-by-stage run in ``out`` trains as stage 1: its own network, and the judges."""
    return [out / STAGES / name for name in ("1", *(f"1-fold{fold}" for fold in range(folds)))]


def chosen(table: Table, stage: int, config: StagesConfig, seed: int) -> Chosen:
    """Who goes on to ``stage`` (2 or more), by the table of the stage before."""
    hard = table.oks < config.thresholds[stage - 2] if not config.shares else _hardest(table, config.shares[stage - 2])
    if config.pick == "all":
        kept = np.ones_like(hard)
    elif config.pick == "random":
        kept = _as_many(hard, table.sets, generator(seed, stage, RANDOM_STREAM))
    else:
        kept = hard | _easy(hard, config.easy_share, generator(seed, stage, EASY_STREAM))
    if not kept.any():  # by a threshold: of a share there is somebody
        raise ConfigError(f"nobody of {len(kept)} people goes on to stage {stage}: the lowest OKS is "
                          f"{table.oks.min():.2f}; give a higher threshold, or shares instead")
    return Chosen(kept=kept, importance=(1 - table.oks).astype(np.float32) if config.by_difficulty else None)


def _hardest(table: Table, share: float) -> NDArray[np.bool_]:
    """The ``share`` of lowest OKS of each set, one person at least; of equals the earlier."""
    hard = np.zeros(len(table.oks), dtype=bool)
    for number in np.unique(table.sets):
        rows = np.flatnonzero(table.sets == number)
        count = max(1, round(share * len(rows)))
        hard[rows[np.argsort(table.oks[rows], kind="stable")[:count]]] = True
    return hard


def _as_many(hard: NDArray[np.bool_], sets: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """As many people of each set as are hard there, at random."""
    kept = np.zeros_like(hard)
    for number in np.unique(sets):
        rows = np.flatnonzero(sets == number)
        kept[rng.choice(rows, int(hard[rows].sum()), replace=False)] = True
    return kept


def _easy(hard: NDArray[np.bool_], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """So many easy people at random that they are ``share`` of all who go on, or all there are."""
    rows = np.flatnonzero(~hard)
    wanted = min(len(rows), round(share / (1 - share) * int(hard.sum())))
    kept = np.zeros_like(hard)
    kept[rng.choice(rows, wanted, replace=False)] = True
    return kept


def folds_by_picture(stores: Sequence[CropStore], folds: int, seed: int) -> NDArray[np.int64]:
    """(P,) the fold of each person: a picture's people in one, in whichever sets it is; equal up to one picture."""
    pictures, place_P = _pictures(stores)
    return np.asarray(generator(seed, 0, FOLD_STREAM).permutation(len(pictures))[place_P] % max(folds, 1))


def _pictures(stores: Sequence[CropStore]) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """File names of all pictures, each once, and (P,) the place of each person's among them."""
    names = [np.array(store.image_names)[np.unique(store.image_ids, return_inverse=True)[1]] for store in stores]
    pictures, place_P = np.unique(np.concatenate(names), return_inverse=True)
    return pictures, place_P


def earlier_slower(stage: int, config: StagesConfig) -> tuple[tuple[str, float], ...]:
    """Learning rates of what ``stage`` did not add, where it is tuned."""
    if config.earlier == "frozen":
        return ()
    added = (f"network.stages.{stage - 1}.", f"network.links.{stage - 2}.", f"network.bridges.{stage - 2}.")
    return (*((name, 1.0) for name in added), ("network.", config.earlier_lr))
