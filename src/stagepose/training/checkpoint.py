"""Checkpoints, ``RUN/steps/N/{model,ema,optimizer}.safetensors, state.json, MANIFEST.json``: written, read, filled in.

A step folder is immutable and counts only with its manifest, which is written last and holds every file's sha256. Who
holds the run folder while it trains, runfolder.py tells.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from stagepose import files
from stagepose.errors import CheckpointError, StagePoseError
from stagepose.runfiles import BEST, JUDGED, STAGES, STEP, finished_stages, read_object, read_optional
from stagepose.runtime import shipped

log = logging.getLogger(__name__)

FORMAT = 1
OWN_DIGEST = "manifest_sha256"  # of the manifest's other fields; every later format has it too
PARTIAL = ".tmp"  # ends it while it is written
Tensors = dict[str, Tensor]


class OtherFormatError(CheckpointError):
    """A checkpoint that another version wrote."""


@dataclass(frozen=True)
class Checkpoint:
    """One loaded step: tensors by part (``model``, ``ema``, ``optimizer``) and the plain ``state``."""

    step: int
    parts: dict[str, Tensors]
    state: dict[str, Any]


def step_folders(run: Path) -> dict[int, Path]:
    """The folders of a run's steps by number, in order; what else lies beside them is not ours."""
    return {int(path.name): path for path in sorted(run.glob(f"steps/{STEP}"))}


def has_begun(run: Path) -> bool:
    """Whether a run folder, or that of a stage, has weights to go on from, so that those it began with may be gone."""
    return bool(step_folders(run)) or (run.parent.name == STAGES and run.with_suffix(".safetensors").is_file())


def _step_folder(run: Path, step: int) -> Path:
    return run / "steps" / f"{step:09d}"


def save_step(run: Path, step: int, parts: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
    """Write a step's folder whole or not at all; :class:`OSError` where the disk refuses.

    One that is there is not touched where it is whole, and replaced where it is damaged.
    """
    final = _step_folder(run, step)
    if final.exists() and _is_whole(final):
        return
    payload = {f"{name}.safetensors": packed(tensors) for name, tensors in parts.items()}
    payload["state.json"] = json.dumps(dict(state)).encode()
    temporary = final.with_name(final.name + PARTIAL)
    try:
        _refuse_full_disk(run, sum(map(len, payload.values())))
        temporary.mkdir(exist_ok=True)
        for name, data in payload.items():
            files.write_bytes(temporary / name, data)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in payload.items()}
        manifest = {"format": FORMAT, "step": step, "sha256": digests}
        files.write_json(temporary / "MANIFEST.json", manifest | {OWN_DIGEST: _own_digest(manifest)})
        if final.exists():  # damaged: the training went on from the step before it
            shutil.rmtree(final)
        temporary.rename(final)
    except BaseException:  # a full disk, a signal: nothing partial stays, older checkpoints are whole
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _refuse_full_disk(folder: Path, needed: int) -> None:
    """Say so before a checkpoint is begun that cannot fit."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(f"{folder}: disk full, {needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free; free some "
                              "space and start the same command again. Older checkpoints are untouched")


def load_step(folder: Path) -> Checkpoint:
    """One step folder, every file checked against the manifest's sha256."""
    try:
        manifest = dict(json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8")))
        if OWN_DIGEST in manifest and manifest[OWN_DIGEST] != _own_digest(manifest):  # older ones have none
            raise ValueError("its digest is another")
        other = manifest["format"] != FORMAT
        digests, step = ({}, 0) if other else (dict(manifest["sha256"]), int(manifest["step"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{folder}: no readable MANIFEST.json ({why})") from error
    if other:
        raise OtherFormatError(f"{folder}: a checkpoint of format {manifest['format']!r}, this version reads {FORMAT}; "
                               "go on with the version of StagePose that wrote it, or start in a new folder")
    if folder.name != f"{step:09d}":
        raise CheckpointError(f"{folder}: MANIFEST.json is of step {step}, the file is damaged")
    parts: dict[str, Tensors] = {}
    state: dict[str, Any] = {}
    for name, digest in digests.items():
        data = _read(folder / name)
        if hashlib.sha256(data).hexdigest() != digest:
            raise CheckpointError(f"{folder / name}: sha256 mismatch, the file is damaged")
        if name.endswith(".safetensors"):
            parts[name.removesuffix(".safetensors")] = load_tensors(data)
        else:
            state = json.loads(data)
    return Checkpoint(step, parts, state)


def _is_whole(step: Path) -> bool:
    try:
        load_step(step)
    except CheckpointError:
        return False
    return True


def _own_digest(manifest: Mapping[str, Any]) -> str:
    """By which a manifest of another format, which is refused, is told from a damaged one, which is passed over."""
    fields = {name: value for name, value in manifest.items() if name != OWN_DIGEST}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def certain_step(run: Path, step: int) -> Checkpoint:
    """A step that somebody asks for; :class:`CheckpointError` names those there are where it is none."""
    if step not in (there := step_folders(run)):
        raise CheckpointError(f"{run}: has no step {step} (any more); it has "
                              f"{', '.join(map(str, there)) or 'none yet'}")
    return load_step(there[step])


def newest_checkpoint(folder: str | Path) -> Checkpoint | None:
    """See :meth:`Run.newest`; needs no lock."""
    steps = step_folders(Path(folder))
    for step in reversed(steps.values()):
        try:
            return load_step(step)
        except OtherFormatError:  # whole, so the steps before it must not take its place
            raise
        except CheckpointError as error:
            log.warning("%s; trying the step before", error)
    if steps:
        raise CheckpointError(f"{folder}: none of its {len(steps)} checkpoints is whole; start again in a new folder")
    return None


# --- what else a run folder says


def judged(run: Path) -> dict[str, float]:
    """The newest validation of a run folder; empty where there is none, and on ranks that do not see the folder."""
    return {k: v for k, v in read_optional(run / JUDGED).items() if k != "step"}


def last_stage(run: Path) -> Path | None:
    """The weights of the last finished stage of a stage-by-stage run; None where ``run`` is no such run."""
    done = finished_stages(run)
    return run / STAGES / f"{done[-1]}.safetensors" if done else None


def read_number(path: Path, name: str) -> float:
    """A number in a JSON object that StagePose wrote; :class:`CheckpointError` where it has none of that name."""
    value = read_object(path).get(name)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CheckpointError(f"{path}: {name} is {value!r}, expected a number; the file is damaged")
    return value


@contextmanager
def settings_of(path: Path) -> Iterator[None]:
    """Within it a run's settings are made of its JSON at ``path``, which :class:`CheckpointError` names for a fault."""
    try:
        yield
    except StagePoseError as error:  # a value that no setting takes
        raise CheckpointError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not the settings of a run that this version knows ({type(error).__name__}: "
                              f"{error}); it is damaged, or another version's") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read: {error.strerror}") from error


# --- weights into networks


def load_weights(path: str | Path) -> Tensors:
    """Weights to start from: a ``.safetensors`` file, or what a run folder has averaged.

    Of a folder its last finished stage; else its best step by validation; else its newest. A finished stage's own
    folder stands for what came of it.
    """
    path = last_stage(Path(path)) or Path(path)
    if path.parent.name == STAGES and (done := path.with_suffix(".safetensors")).is_file():
        path = done  # its batch norms were measured once more after its last step
    if path.is_dir():
        best = path / BEST
        checkpoint = certain_step(path, int(read_number(best, "step"))) if best.is_file() else newest_checkpoint(path)
        if checkpoint is None:
            raise CheckpointError(f"{path}: no checkpoint in this run folder; train it first")
        return checkpoint.parts["ema"]
    if not path.exists():
        raise CheckpointError(f"{path}: no such run folder or file, nor is it the name of a model that ships "
                              f"({', '.join(shipped())})")
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: weights come from a .safetensors file or a run folder, never from a pickle, "
                              "which can run code; turn its state_dict into one with safetensors.torch.save_file")
    try:
        return load_tensors(_read(path))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: not a valid safetensors file: {error}") from error


def fill(model: nn.Module, weights: Tensors, source: str) -> None:
    """``load_state_dict`` with one clear line for what is missing, unknown, misshapen or not finite."""
    own = model.state_dict()
    missing, unknown = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
    if missing or unknown:
        raise CheckpointError(f"{source}: weights of another network: {len(missing)} tensors missing "
                              f"(first {missing[:1]}), {len(unknown)} unknown (first {unknown[:1]})")
    for name, tensor in weights.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(f"{source}: tensor {name} has shape {tuple(tensor.shape)}, "
                                  f"expected {tuple(own[name].shape)}")
        _refuse_nan(name, tensor, source)
    model.load_state_dict(weights)


def fill_matching(model: nn.Module, weights: Tensors, source: str) -> str:
    """Start from ``weights`` wherever name and shape agree -> a line that counts what was taken and what was not.

    Raises :class:`CheckpointError` when nothing fits.
    """
    own, taken = model.state_dict(), matching(model, weights, source)
    model.load_state_dict({**own, **taken})
    fresh = [name for name in own if name not in taken]
    return f"{source}: {len(taken)} of {len(own)} tensors taken, {len(fresh)} start fresh" + (
        f", {fresh[0]} the first" if fresh else "")


def matching(model: nn.Module, weights: Tensors, source: str) -> Tensors:
    """The ``weights`` whose name and shape ``model`` has; :class:`CheckpointError` for none, and for NaN in them."""
    own = model.state_dict()
    taken = {name: t for name, t in weights.items() if name in own and t.shape == own[name].shape}
    if not taken:
        raise CheckpointError(f"{source}: no tensor fits this network; give weights of the same kind")
    for name, tensor in taken.items():
        _refuse_nan(name, tensor, source)
    return taken


def _refuse_nan(name: str, tensor: Tensor, source: str) -> None:
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise CheckpointError(f"{source}: tensor {name} holds NaN or infinity")


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """A .safetensors file: plain CPU tensors that share no memory, as safetensors wants them."""
    return save_tensors({name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()})


def digest(weights: Mapping[str, Tensor]) -> str:
    """sha256 of weights, by which a run knows again what it began with or learns from."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode() + weights[name].detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The moments of an optimizer as flat tensors ``index.name``; everything else follows from the config."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value for i, entry in state.items() for key, value in entry.items()
            if isinstance(value, Tensor)}


def fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> bool:
    """The inverse of :func:`optimizer_tensors`; moments get their parameter's memory layout again.

    False, and nothing is filled, where they are of an optimizer of another kind or of other parameters, such as those
    of a trunk with more or fewer frozen blocks: either orders its parameters otherwise.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    turns = any(group.get("matrices") for group in optimizer.param_groups)
    if tensors and turns != any(name.endswith(".momentum") for name in tensors):
        return False
    state: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        place, key = name.split(".", 1)
        index = int(place)
        if index >= len(parameters) or (key != "step" and tensor.shape != parameters[index].shape):
            return False
        if tensor.shape == parameters[index].shape:
            tensor = torch.empty_like(parameters[index], requires_grad=False).copy_(tensor)
        state.setdefault(index, {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return True
