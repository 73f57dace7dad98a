"""One function per experiment, at three scales; a plain dict is the only registry.

*full*: the report's networks at its input size, 12 million samples each (80 passes over COCO's people): for GPUs.
*small*: the same question where a CPU or an hour of a GPU can answer it; what stands in for what is said in the arm's
name. *tiny*: two arms and a few steps, which show that everything runs and answer nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stagepose.errors import ConfigError
from stagepose.heatmaps import UdpDark
from stagepose.names import suggestion
from stagepose.training.augment import AugmentConfig
from stagepose.training.experiments.plan import Arm, Experiment, Scale
from stagepose.training.loop import TrainConfig
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.presets import PoseRecipe, of_network
from stagepose.training.stages import Pick, StagesConfig

SEEDS: dict[Scale, int] = {"tiny": 2, "small": 3, "full": 3}


Named = tuple[str, str, float | None]  # network, arm, the report's AP

BACKBONES: tuple[Named, ...] = (
    ("1xres50", "ResNet-50", 73.3), ("1xres101", "ResNet-101", 73.7), ("1xres152", "ResNet-152", 73.8),
    ("1xres101-spatial", "ResNet-101 spatial", 74.1),
)  # fmt: skip
TWO_NETWORKS: tuple[Named, ...] = (("u-300m", "u-300m", None), ("slim-u", "slim-u", None))
STAGES: tuple[Named, ...] = (
    ("1xres50", "1 stage", 73.3), ("2xres50", "2 stages", None), ("3xres50", "3 stages", 77.5),
    ("4xres50", "4 stages", 77.8),
)  # fmt: skip
SMALL_STAGES: tuple[Named, ...] = (
    ("u-300m", "1 stage of u-300m", None), ("2xu-300m", "2 stages of u-300m", None),
    ("3xu-300m", "3 stages of u-300m", None),
)  # fmt: skip
TABLE_2 = (  # network, its ImageNet weights, AP of a Gaussian start and of theirs
    ("3xres50", "resnet50", 77.5, 76.9), ("4xres50", "resnet50", 77.8, 77.0),
    ("2xres101", "resnet101", 77.0, 76.2), ("2xresinc101", "resinc101", 77.5, 76.9),
)  # fmt: skip


def backbone(scale: Scale) -> Experiment:
    """Single stages of growing depth, and the spatial variant of the same cost."""
    return Experiment(
        name="backbone", question="Does depth help a single stage, and does it help more where maps are large?",
        published_where="report, its section on backbones: single stages",
        scale=scale, seeds=SEEDS[scale], arms=_arms(TWO_NETWORKS if scale == "tiny" else BACKBONES, scale))


def stages(scale: Scale) -> Experiment:
    """One to four stages of the same kind."""
    return Experiment(
        name="stages", question="Does every further stage help?",
        published_where="report: 1 stage from its section on backbones, 3 and 4 from table 2 (ResNet-50, Gaussian "
                        "start); they may not have been measured alike, and its stages were trained on OKS thresholds",
        scale=scale, seeds=SEEDS[scale],
        arms=_arms({"full": STAGES, "small": SMALL_STAGES, "tiny": SMALL_STAGES[:2]}[scale], scale))


def _arms(named: tuple[Named, ...], scale: Scale) -> tuple[Arm, ...]:
    return tuple(Arm(name=name, recipe=_recipe(network, scale), published=ap) for network, name, ap in named)


def initialisation(scale: Scale) -> Experiment:
    """Gaussian weights against ImageNet's, network by network.

    At full scale the pretrained arms need files: ResNet weights come with no package of ours. Below it the networks
    are those whose ImageNet weights do.
    """
    arms = []
    if scale == "full":
        for network, weights, gaussian, pretrained in TABLE_2:
            arms.append(Arm(name=f"{network}, Gaussian", recipe=_recipe(network, scale), published=gaussian))
            arms.append(Arm(name=f"{network}, ImageNet", recipe=_recipe(network, scale), published=pretrained,
                            pretrained=f"{weights}.safetensors"))
    else:
        for network in ("lite0-u", "2xlite0-u")[: 1 if scale == "tiny" else 2]:
            arms.append(Arm(name=f"{network}, Gaussian", recipe=_recipe(network, scale)))
            arms.append(Arm(name=f"{network}, ImageNet", recipe=_recipe(network, scale, imagenet=True)))
    return Experiment(
        name="initialisation", question="Is a Gaussian start as good as ImageNet's weights?",
        published_where="report, table 2: Gaussian against pretrained, by network", scale=scale, seeds=SEEDS[scale],
        arms=tuple(arms))


def resampling(scale: Scale) -> Experiment:
    """Stage by stage on the hard people, against as many at random, against everybody; and all stages together.

    Small networks leave most people under the report's thresholds, so below full scale shares stand for them. Every
    stage is shown a whole run's samples; together they are shown as many as all stages in a row.
    """
    network, count = ("3xres50", 3) if scale == "full" else ("2xu-300m", 2)
    limits = StagesConfig() if scale == "full" else StagesConfig(shares=(0.4,))
    recipe = _recipe(network, scale)
    together = replace(recipe, train=replace(recipe.train, samples=count * recipe.train.samples))
    picks: dict[str, Pick] = {"everybody": "all", "as many at random": "random", "the hard ones": "hard"}
    return Experiment(
        name="resampling", question="Do later stages learn more from hard people than from anybody?",
        published_where="none: the report gives no figure without resampling", scale=scale, seeds=SEEDS[scale],
        arms=(Arm(name="all stages together", recipe=together, times=count),
              *(Arm(name=f"stage by stage, {name}", recipe=recipe, stages=replace(limits, pick=pick))
                for name, pick in picks.items())))


def extension(scale: Scale) -> Experiment:
    """Real people alone, against real and generated ones in as many samples."""
    recipe = _recipe("3xres50" if scale == "full" else "u-300m", scale)
    return Experiment(
        name="extension", question="Do generated people make a network better?",
        published_where="none: the report says that its extended set makes the model more robust, and gives no figure",
        scale=scale, seeds=SEEDS[scale],
        arms=(Arm(name="real people", recipe=recipe),
              Arm(name="real and generated people", recipe=recipe, extended=True)))


EXPERIMENTS: dict[str, Callable[[Scale], Experiment]] = {
    "backbone": backbone, "stages": stages, "initialisation": initialisation, "resampling": resampling,
    "extension": extension,
}  # fmt: skip


def experiment(name: str, scale: Scale) -> Experiment:
    """By name; :class:`ConfigError` lists the names."""
    if name not in EXPERIMENTS:
        raise ConfigError(f"no experiment named {name!r}; the experiments are {', '.join(EXPERIMENTS)}"
                          + suggestion(name, EXPERIMENTS))
    return EXPERIMENTS[name](scale)


def _recipe(network: str, scale: Scale, *, imagenet: bool = False) -> PoseRecipe:
    """What all arms of a scale have in common."""
    if scale == "full":
        base = of_network("1xres50")
        return replace(base, pose=replace(base.pose, network=network, imagenet=imagenet))
    if scale == "small":
        train = TrainConfig(batch=32, samples=200_000, lr=2e-3, save_every=200)
        codec, augment = UdpDark(input_size=(96, 128)), AugmentConfig()
    else:
        train = TrainConfig(batch=8, samples=64, warmup=8, lr=2e-3, log_every=2, save_every=4, bf16=False)
        codec, augment = UdpDark(input_size=(64, 96)), AugmentConfig(rotation=10, scale=0.1)
    return PoseRecipe(pose=PoseConfig(network=network, codec=codec, augment=augment, imagenet=imagenet), train=train)
