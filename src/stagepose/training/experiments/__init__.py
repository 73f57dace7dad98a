"""The report's experiments as code: arms that differ in one thing, trained with several seeds, beside its figures."""

from stagepose.training.experiments.estimate import Estimate, estimate
from stagepose.training.experiments.outcome import Outcome, write_outcome
from stagepose.training.experiments.plan import Arm, Experiment, Scale
from stagepose.training.experiments.recipes import EXPERIMENTS, experiment
from stagepose.training.experiments.runner import finished_before, run_all

__all__ = [
    "EXPERIMENTS",
    "Arm",
    "Estimate",
    "Experiment",
    "Outcome",
    "Scale",
    "estimate",
    "experiment",
    "finished_before",
    "run_all",
    "write_outcome",
]
