"""``stagepose info``: what a model file says of itself, what a run folder has come to, what a crop store holds.

Nothing is computed and nothing unpickled: all of it is JSON, read without torch.
"""

from __future__ import annotations

import hashlib
import json as json_module
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from stagepose.commands.console import counted, say
from stagepose.errors import CheckpointError, DatasetError, ModelError, StagePoseError
from stagepose.geometry import BOX_PADDING, Padding
from stagepose.lines import printable
from stagepose.modelinfo import ModelInfo
from stagepose.onnxfile import Interface, Value, interface
from stagepose.runfiles import BEST, CONFIG, JUDGED, STAGES, finished_stages, read_object, read_optional, saved_steps
from stagepose.runtime import export_line, read_info, resolve, shipped

Row = tuple[str, str]
WIDEST = 120  # of the text, on however wide a terminal
SCHEDULE = ("samples", "batch", "lr", "seed")  # what is told of a run's
STORE = "store.json"  # what a crop store has


def info(model: Positional[Annotated[str, arg(metavar="MODEL")]], *, json: bool = False) -> None:
    """Show what a model is: its input, keypoints, training data, licence, metrics, size and digest.

    For a run folder: what is trained there, on how many people, how far it is and how good. A model file is checked as
    for use, but nothing is run.

    Args:
        model: A shipped name, an .onnx file, a run folder, or a folder of packed people.
        json: Print everything as JSON instead, including what is not shown otherwise.
    """
    try:
        described, rows = _look_at(model)
        text = json_module.dumps(described, indent=1) if json else ""
    except RecursionError as error:
        raise StagePoseError(f"{printable(model)}: the JSON in it is nested too deeply; StagePose writes none such"
                             ) from error
    if json:
        say(text)
    else:
        _show([(what, value) for what, value in rows if value])


def _look_at(model: str) -> tuple[dict[str, Any], list[Row]]:
    """(all of it, as --json tells it; what is told to people)."""
    folder = Path(model)
    if model in shipped() or not folder.is_dir():
        return _of_file(resolve(model))
    if (folder / CONFIG).is_file():
        return _of_run(folder)
    if (folder / STORE).is_file():
        return _of_store(folder)
    raise ModelError(f"{printable(model)}: a folder that is neither a run (no {CONFIG}) nor packed people (no {STORE}"
                     f"); give such a folder, an .onnx file or one of the names that ship: {', '.join(shipped())}")


def _show(rows: Sequence[Row]) -> None:
    """A line or more for each, the values below each other."""
    left = max(len(what) for what, _ in rows) + 2
    width = min(WIDEST, max(shutil.get_terminal_size().columns, left + 40))
    for what, value in rows:
        say(textwrap.fill(value, width, initial_indent=f"{what:{left}}", subsequent_indent=" " * left,
                          break_long_words=False, break_on_hyphens=False))


def _of_file(path: Path) -> tuple[dict[str, Any], list[Row]]:
    about, data, card = read_info(path), path.read_bytes(), path.with_suffix(".md")
    digest = hashlib.sha256(data).hexdigest()
    graph = interface(data)
    described = {"file": str(path), "bytes": len(data), "file_sha256": digest, **about.to_json(),
                 "graph": {"inputs": [value._asdict() for value in graph.inputs],
                           "outputs": [value._asdict() for value in graph.outputs], "opsets": graph.opsets}}
    has_card = card.is_file() and path.stem in shipped() and path == resolve(path.stem)
    return described, [
        ("kind", "pose model" if about.kind == "pose" else "person detector"),
        ("name", printable(about.name)),
        *_networks_rows(about, graph),
        ("opset", ", ".join(f"{name} {version}".strip() for name, version in sorted(graph.opsets.items()))),
        ("trained on", _text("; ".join(about.training_data)) or "not said in the file"),
        ("licence", _text(about.licence) or "not said in the file"),
        ("metrics", _pairs(about.metrics) or "none in the file"),
        ("more", _pairs(about.extra)),
        ("file", f"{printable(path)}, {_size(len(data))}"),
        ("card", printable(card) if has_card else ""),
        ("sha256", digest),
        ("sha256 of weights", about.sha256),
    ]


def _networks_rows(about: ModelInfo, graph: Interface) -> Iterator[Row]:
    width, height = about.input_size
    if about.skeleton is None or about.codec is None:
        yield "input", (f"{_named(graph.inputs)}, uint8 RGB (H, W, 3), one picture of any size, looked at in "
                        f"{width} x {height}; normalisation inside")
        yield "output", f"{_named(graph.outputs)}, float32 (n, 4) and (n,)"
        yield "settings", _pairs(about.detector)
        return
    yield "network", printable(about.network)
    yield "stages", _pairs(about.stages)
    batch = next((value.shape[0] for value in graph.inputs if value.shape and isinstance(value.shape[0], int)), "N")
    across, down = about.codec.heatmap_size
    yield "input", f"{_named(graph.inputs)}, uint8 RGB ({batch}, {height}, {width}, 3); normalisation inside"
    yield "output", f"{_named(graph.outputs)}, float32 ({batch}, {len(about.skeleton)}, {down}, {across})"
    yield "keypoints", _keypoints(about.skeleton.to_json())
    yield "codec", _codec(about.codec.to_json())
    yield "box padding", _times(about.box_padding)
    whose = " (none in the file)" if about.threshold is None else ""
    yield "threshold", f"{about.shown_from:g}{whose}, the least score of a person"


def _named(values: Sequence[Value]) -> str:
    return " and ".join(printable(value.name) for value in values)


def _of_run(folder: Path) -> tuple[dict[str, Any], list[Row]]:
    config = read_object(folder / CONFIG)
    steps, stages = [int(path.name) for path in saved_steps(folder)], finished_stages(folder)
    last = f"{STAGES}/{stages[-1]}.json" if stages else JUDGED
    best, judged = read_optional(folder / BEST), read_optional(folder / last)
    described = {"run": str(folder), "steps": steps, "stages": stages, "best": best, "judged": judged, "config": config}
    try:
        rows = list(_runs_rows(config))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{printable(folder / CONFIG)}: not the settings of a run that this version knows "
                              f"({type(error).__name__}: {error})") from error
    of = f" of {config['row']}" if "row" in config else ""
    done = f"stage {stages[-1]}{of} done" if stages else f"step {steps[-1]:,}" if steps else "no checkpoint yet"
    export = export_line(folder) if (steps or stages) and config["kind"] != "repair" else ""
    return described, [*rows, ("trained to", done), ("best", _pairs(best)), ("last judged", _pairs(judged)),
                       ("folder", printable(folder)), ("a file of it", export)]


def _runs_rows(config: Mapping[str, Any]) -> Iterator[Row]:
    kind, train = config["kind"], config["train"]
    yield "kind", {"pose": "run of a pose network", "stages": "run of a pose network, stage by stage",
                   "detector": "run of a person detector", "repair": "run of a network that repairs people"
                   }.get(kind, f"run of kind {kind!r}")
    if "pose" in config:
        pose = config["pose"]
        width, height = pose["codec"]["input_size"]
        yield "network", str(pose["network"])
        yield "input", f"crops of {width} x {height} pixels (width x height)"
        yield "keypoints", _keypoints(config["skeleton"])
        yield "codec", _codec(pose["codec"])
        yield "box padding", _times(pose.get("box_padding", BOX_PADDING))
    if kind == "detector":
        yield "settings", _pairs(config["detector"])
    data = config.get("data", {})
    if isinstance(data, list):
        yield "learns from", " + ".join(counted(one["people"], "person", "people") for one in data)
    elif "pictures" in data:
        yield "learns from", counted(data["pictures"], "picture", "pictures")
    yield "schedule", _pairs({key: train[key] for key in SCHEDULE if train.get(key) is not None})


def _of_store(folder: Path) -> tuple[dict[str, Any], list[Row]]:
    store = read_object(folder / STORE, DatasetError)
    try:
        width, height = store["spec"]["input_size"]
        held = sum(int(shard["bytes"]) for shard in store["shards"])
        left_out = {reason: count for reason, count in store["left_out"].items() if count}
        return {"store": str(folder), **store}, [
            ("kind", f"packed people, {store['form']} pixels"),
            ("people", f"{store['people']:,}"),
            ("left out", _pairs(left_out)),
            ("cut for", f"crops of {width} x {height} pixels (width x height)"),
            ("kept", f"{store['spec']['context']:g} times that, to be turned and zoomed out"),
            ("keypoints", _keypoints(store["skeleton"])),
            ("folder", f"{printable(folder)}, {_size(held)}"),
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{printable(folder / STORE)}: not what packed people have there "
                           f"({type(error).__name__}: {error}); delete the folder and pack again") from error


def _times(padding: Padding) -> str:
    if isinstance(padding, tuple):
        return f"{padding[0]:g} times the box's width and {padding[1]:g} times its height, then to the crop's shape"
    return f"{padding:g} times the box"


def _keypoints(skeleton: Mapping[str, Any]) -> str:
    names = [printable(name) for name in skeleton["names"]]
    return f"{len(names)} of {printable(skeleton['name'])}: {', '.join(names)}"


def _codec(codec: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in codec.items() if key not in ("name", "input_size")}
    return f"{codec['name']}: {_pairs(rest)}"


def _pairs(values: Mapping[str, Any]) -> str:
    """``name value, ...``: numbers with 6 digits at most, what has parts or commas of its own in brackets or quotes."""
    return ", ".join(f"{_text(key)} {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_pairs(value)})"
    if isinstance(value, float):
        return f"{value:g}"
    return _text(value) if isinstance(value, str) and "," not in value else _text(json_module.dumps(value))


def _text(value: object) -> str:
    return printable(value)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB ({count:,} bytes)"
