"""``stagepose gan extend``: more people from those there are, an ordinary COCO set to learn from with ``--extra``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, arg

from stagepose.commands.arguments import (
    UNSAID,
    Folder,
    JsonFile,
    OptionalCount,
    OptionalFolder,
    OptionalName,
    OptionalRun,
)
from stagepose.commands.console import counted, counter_or_lines, note, say, table
from stagepose.cores import available_cores
from stagepose.errors import ConfigError, DatasetError, needing
from stagepose.extend import Extended, Judge, Recipe, extend_set
from stagepose.extend.judge import LEAST_OKS
from stagepose.extend.paste import PasteConfig, PasteRecipe
from stagepose.lines import printable

By = Literal["paste", "gan"]
BAR = 40  # letters of the longest bar of the histogram


@dataclass(frozen=True, kw_only=True)
class PasteOptions:
    """How people are pasted.

    Attributes:
        people: Maximum number of people pasted into one picture.
        over: Probability that one is pasted over somebody who is there already.
        empty: Probability that the background is a picture without people, where there are such.
        negatives: Folder of pictures without people; by default negatives/ beside the file, if it is there.
    """

    people: int = PasteConfig.people
    over: float = PasteConfig.over
    empty: float = PasteConfig.empty
    negatives: OptionalFolder = None

    def recipe(self, data: Path, seed: int) -> PasteRecipe:
        """With the pictures without people that there are."""
        beside = data.parent / "negatives"
        negatives = self.negatives or (beside if beside.is_dir() else None)
        return PasteRecipe(data=data, negatives=negatives, seed=seed,
                           config=PasteConfig(people=self.people, over=self.over, empty=self.empty))


@dataclass(frozen=True, kw_only=True)
class GanOptions:
    """How limbs are carried to new poses.

    Attributes:
        with_run: Run folder of 'stagepose gan train', whose network inpaints what was moved.
        hard: Run folder of 'stagepose train-stages' on the same set alone: poses of people with a low OKS there are
            sampled more often.
        device: Device of the network: cpu or cuda (one process).
    """

    with_run: Annotated[Path | None, arg(name="with", metavar="RUN", help_behavior_hint=UNSAID)] = None
    hard: OptionalRun = None
    device: str = "cpu"

    def recipe(self, data: Path, seed: int, jobs: int | None) -> Recipe:
        """With the network of the run; needs the extra 'train'."""
        if self.with_run is None:
            raise ConfigError("--by gan needs a trained network: train one with 'stagepose gan train PRESET --data "
                              f"{printable(data)} --out RUN', and name it with --with RUN")
        if self.device != "cpu" and (jobs or 1) > 1:
            raise ConfigError(f"--device {self.device} is one for all: use it with --jobs 1")
        with needing("train"):
            from stagepose.training.devices import prepare_device
            from stagepose.training.gan.generate import GanRecipe
        return GanRecipe(data=data, run=self.with_run, seed=seed, hard=self.hard,
                         device=prepare_device(self.device, threads=1))


PASTE, GAN = PasteOptions(), GanOptions()


def extend(
    data: JsonFile,
    *,
    pictures: Annotated[int, arg(aliases=["-n"], metavar="N")],
    out: Folder,
    by: By = "paste",
    paste: OmitArgPrefixes[PasteOptions] = PASTE,
    gan: OmitArgPrefixes[GanOptions] = GAN,
    seed: int = 0,
    judge: OptionalName = None,
    least_oks: float = LEAST_OKS,
    jobs: OptionalCount = None,
) -> None:
    """Make more people of those that a set has: an ordinary COCO set, marked as generated.

    paste: people are cut out and pasted into other scenes and before other people, so that limbs are hidden as they
    are in crowds; labels follow. gan: arms and legs are carried to new poses that a body can take, and a network
    paints what was behind and beside them; the labels go with the limbs. Stop it at any time: the same command goes on
    where it was, and a larger N adds to what is there. The same seed gives the same pictures, whatever the number of
    processes. Learn from the set with 'stagepose train ... --extra OUT/person_keypoints.json'.

    Args:
        data: COCO annotation file, pictures in images/ beside it.
        pictures: Number of pictures to make.
        out: Folder for the set: images/, person_keypoints.json, report.json, and sheet.jpg to look at.
        by: How people are made.
        paste: How people are pasted.
        gan: How limbs are carried to new poses.
        seed: Random seed.
        judge: Pose model, independent of what made the people, that must find each of them; nobody is judged without
            it.
        least_oks: Minimum OKS of the judge's prediction; people below it are dropped.
        jobs: Processes; one a core by default.
    """
    if not data.is_file():
        raise DatasetError(f"{printable(data)}: no such file; name a COCO annotation file")
    recipe: Recipe = paste.recipe(data, seed) if by == "paste" else gan.recipe(data, seed, jobs)
    if (by == "paste" and gan != GAN) or (by == "gan" and paste != PASTE):
        other = "gan" if by == "paste" else "paste"
        raise ConfigError(f"options of --by {other} are given, but people are made --by {by}; leave them out, or give "
                          f"--by {other}")
    if judge is None and least_oks != LEAST_OKS:
        raise ConfigError(f"--least-oks {least_oks:g} is for --judge MODEL; leave it out, or name a judge")
    one = by == "gan" and gan.device != "cpu"  # a GPU is not shared by processes
    processes = jobs if jobs is not None else 1 if one else available_cores()
    judging = None if judge is None else Judge(model=judge, least=least_oks)
    with counter_or_lines("making", "made") as progress:
        done = extend_set(recipe, pictures, out, judge=judging, jobs=processes, progress=progress)
    if isinstance(recipe, PasteRecipe):
        _tell_broken(*recipe.broken_segments)
    _report(done, judging)


def _tell_broken(count: int, first: str) -> None:
    if count:
        note(f"{counted(count, 'segment', 'segments')} of people not used, as if there were none, such as that of "
             f"{printable(first)}; 'stagepose check' tells of them")


def _report(done: Extended, judge: Judge | None) -> None:
    for reason, count in sorted(done.refused.items()):
        note(f"{counted(count, 'picture', 'pictures')} not made: {reason}")
    if judge is None:
        note("nobody judged them; --judge MODEL drops those whom an independent network does not find")
    else:
        tallest = max(1, *done.histogram)
        table(("OKS by the judge", "people", ""), [
            (f"{low / 10:.1f} to {(low + 1) / 10:.1f}", f"{count:,}", f"{'#' * round(BAR * count / tallest):{BAR}}")
            for low, count in enumerate(done.histogram)])
        say(f"kept {done.acceptance:.1%}: {done.dropped:,} of an OKS below {judge.least:g} are dropped")
        if done.unjudged:
            note(f"{counted(done.unjudged, 'person', 'people')} not judged, and kept: {judge.model} finds none of the "
                 "keypoints that they are labelled with")
    say(f"{printable(done.file)}: {counted(done.pictures, 'picture', 'pictures')}, "
        f"{counted(done.people, 'new person', 'new people')}")
