"""``stagepose VERB ...``: the first word (or two) chooses a function, which is imported only then.

Verbs live in :mod:`stagepose.commands` and in the rooms they belong to; adding one is a line in :data:`COMMANDS`.
Exit codes: 0 all well, 1 an error of the input or the files, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from importlib import import_module

from stagepose import __version__
from stagepose.commands.console import note, say
from stagepose.errors import StagePoseError, needing
from stagepose.names import meant

OK, ERROR, USAGE, INTERRUPTED = 0, 1, 2, 130
ALIKE = 0.7  # to be called meant: difflib's own .6 takes 'nonsense' for 'openpose'


@dataclass(frozen=True)
class Command:
    """A verb: where its function is (``module:function``), one line of help, and the extra it needs, if any."""

    target: str
    help: str
    extra: str | None = None

    def load(self) -> Callable[..., int | None]:
        """The function; :class:`MissingExtraError` when a package of its extra is missing."""
        module, name = self.target.split(":")
        with needing(self.extra) if self.extra else nullcontext():
            function: Callable[..., int | None] = getattr(import_module(module), name)
        return function


COMMANDS: dict[str, Command] = {
    "predict": Command("stagepose.commands.predict:predict", "find the people in photos and their keypoints"),
    "cluster": Command("stagepose.commands.cluster:cluster", "find people in millions of photos, on a Ray cluster",
                       "cluster"),
    "openpose": Command("stagepose.commands.openpose:openpose", "write the results of predict in OpenPose's format"),
    "serve": Command("stagepose.commands.serve:serve", "serve pose estimation over HTTP", "serve"),
    "check": Command("stagepose.commands.data:check", "look for mistakes in a COCO annotation file"),
    "show": Command("stagepose.commands.show:show", "draw a set's labels, or the training samples made of them"),
    "convert": Command("stagepose.commands.convert:convert", "convert other tools' labels to a COCO file, or back"),
    "stats": Command("stagepose.commands.data:stats", "count images, people and keypoints of annotation files"),
    "split": Command("stagepose.commands.data:split", "split annotation files into train-val and mini-val"),
    "eval": Command("stagepose.commands.evaluate:evaluate", "judge a model, or existing results, on a COCO file"),
    "compare": Command("stagepose.commands.evaluate:compare_results", "compare models, with confidence intervals"),
    "analyze": Command("stagepose.commands.analyze:analyze_results", "show why people are missed, and what it costs"),
    "sigmas": Command("stagepose.commands.sigmas:sigmas", "measure how precisely people place each keypoint"),
    "eval-detector": Command("stagepose.commands.detector:eval_detector", "judge a person detector, or existing boxes",
                             "eval"),
    "mine-negatives": Command("stagepose.commands.mine_negatives:mine_negatives",
                              "find boxes that a detector takes for people, to train on"),
    "pack": Command("stagepose.commands.pack:pack", "cut people out of labelled pictures, once for all", "train"),
    "train": Command("stagepose.commands.train:train", "train a network on labelled pictures", "train"),
    "train-stages": Command("stagepose.commands.train:train_stages",
                            "train a network stage by stage on harder and harder poses", "train"),
    "hard": Command("stagepose.commands.hard:hard", "show the people that a stage-by-stage run finds hardest", "train"),
    "export": Command("stagepose.commands.train:export", "write a trained run as one .onnx file", "train"),
    "gan train": Command("stagepose.commands.gan_train:train", "train the network that repairs people with moved limbs",
                         "train"),
    "experiment": Command("stagepose.commands.experiment:run_experiment", "repeat the report's experiments", "train"),
    "render": Command("stagepose.commands.render:render", "render people with exact keypoints: a CC0 training set"),
    "gan extend": Command("stagepose.commands.gan:extend", "make more training people from those of a set"),
    "import-detector": Command("stagepose.commands.import_detector:import_torchvision",
                               "convert a torchvision detector to one .onnx file", "train"),
    "info": Command("stagepose.commands.info:info", "show what a model is, what it was trained on, how good it is"),
    "runs": Command("stagepose.commands.runs:runs", "show progress and accuracy of several training runs"),
    "networks": Command("stagepose.commands.networks:networks", "list the pose networks and what they cost", "train"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):  # a file name that the terminal cannot show is escaped, never an error
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except StagePoseError as error:
        return _refusal(str(error))
    except KeyboardInterrupt:
        note("interrupted")
        return INTERRUPTED
    except OSError as error:
        return _system_error(error)
    except SystemExit as exit_:  # tyro, after --help or wrong usage
        return exit_.code if isinstance(exit_.code, int) else OK if exit_.code is None else USAGE


def _open_closed_streams() -> None:
    """What is said to a closed stream (``>&-``, some schedulers) goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - as long as the process


def _system_error(error: OSError) -> int:
    """One line for what the system refused and no command has put in its own words."""
    if error.filename is None:  # standard output: nobody reads on ("stagepose ... | head"), or its disk is full
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return ERROR
    what = "standard output" if error.filename is None else os.fsdecode(error.filename)
    return _refusal(f"{what}: {error.strerror or error}")


def _refusal(text: str) -> int:
    from stagepose.lines import one_line  # a path may have a line break in it

    note(f"error: {one_line(text)}")
    return ERROR


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["help"] and len(words) > 1:  # "help predict" is "predict --help"
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        say(overview())
        return OK
    if words[0] in ("-V", "--version"):
        say(f"stagepose {__version__}")
        return OK
    for count in (2, 1):
        verb = " ".join(words[:count])
        if verb in COMMANDS and count <= len(words):
            return _run(verb, words[count:])
    note(f"error: no command {words[0]!r}; {_advice(words)}")
    return USAGE


def _advice(words: list[str]) -> str:
    """What to say to words that begin no command."""
    two = [verb for verb in COMMANDS if verb.startswith(f"{words[0]} ")]
    near = meant(" ".join(words[:2] if two else words[:1]), two or COMMANDS, cutoff=ALIKE)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there are {' and '.join(map(repr, two))}" if two else "see stagepose --help"


def _run(verb: str, arguments: list[str]) -> int:
    from stagepose.commands.usage import parse  # and tyro: a twentieth of a second that --version need not wait for

    return parse(COMMANDS[verb].load(), f"stagepose {verb}", arguments)() or OK


def overview() -> str:
    """What ``stagepose --help`` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {verb:{width}}{command.help}" for verb, command in COMMANDS.items()]
    return "\n".join([
        "usage: stagepose COMMAND ...", "", "Every person in a picture and the keypoints of each.", "", *lines, "",
        "'stagepose COMMAND --help' lists its options; --version prints the version.",
    ])


if __name__ == "__main__":
    sys.exit(main())
