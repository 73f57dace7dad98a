"""A run over many pictures on a Ray cluster: it survives a bad picture, a killed process, and its own end."""

from __future__ import annotations

import logging
import os
import pickle
import platform
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import stagepose
from stagepose.aliases import Progress
from stagepose.cluster.addresses import find_addresses, is_uri
from stagepose.cluster.find import Fetched, FindPeople, refuse_broken, with_columns
from stagepose.cluster.parts import IMAGE, NOTE, done, taken, write_part
from stagepose.cores import available_cores
from stagepose.errors import ConfigError, StagePoseError
from stagepose.files import write_bytes
from stagepose.lines import printable
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, Predictor, load
from stagepose.runtime import BYTES, DetectorModel, Model, resolve

POSE, DETECTOR = "pose.onnx", "detector.onnx"  # in OUT: the models as all machines use them
PART = 256  # pictures of a part; what a killed process does again
PARTS_EACH = 4  # at least, for every process, so that none waits long for the others at the end
DEATHS = 3  # of processes that look at a picture, before it is given up
SHOWN = 10  # errors that are told of; the parts have all
COUNTS = pa.schema([("pictures", pa.int64()), ("people", pa.int64()), ("failed", pa.int64()),
                    ("errors", pa.list_(pa.string())), ("fatal", pa.binary())])


@dataclass
class Found:
    """How a run ended: counts of the pictures that it looked at, and the first errors."""

    pictures: int = 0
    people: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)
    earlier: int = 0  # of the pictures asked for, those that had a row before
    earlier_failed: int = 0  # and of these, with an error

    def count(self, row: Mapping[str, Any]) -> None:
        """A part is written."""
        self.pictures += row["pictures"]
        self.people += row["people"]
        self.failed += row["failed"]
        self.errors += list(row["errors"])[: SHOWN - len(self.errors)]


def find_in(
    images: str | Sequence[str],
    out: str | Path,
    *,
    pose: Model = DEFAULT_POSE,
    detector: Model = DEFAULT_DETECTOR,
    address: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    provider: str = "cpu",
    gpus: float | None = None,
    part: int = PART,
    again: bool = False,
    progress: Progress = lambda done, total: None,
    **config: Any,
) -> Found:
    """Find the people in files, folders, globs and URIs; ``OUT/parts/*.parquet`` has a row for every picture.

    The same call goes on with an unfinished run: pictures that have a row are left alone, those with an error too
    unless ``again``. ``out`` and the pictures' paths must lie where all machines see them. Columns are those of
    :class:`FindPeople` and ``image``, an absolute path or URI.

    Ray as it is initialized is used; else the cluster at ``address``, which this machine must belong to ("auto" finds
    it), or by default this machine's cores alone. ``workers`` processes with ``threads`` each, by default as many as
    the machines have room for; each reserves ``gpus`` GPUs, one by default with another ``provider`` than cpu. ``part``
    pictures are written at once. ``progress`` is told (done, all). ``config``: fields of
    :class:`stagepose.PredictorConfig`.

    Raises :class:`ConfigError` for a setting out of range, :class:`DatasetError` for a folder of another run,
    :class:`ImageError` where there are no pictures, :class:`StagePoseError` for what ends a run on a cluster.
    """
    if gpus is None:
        gpus = float(provider.lower() not in ("cpu", "cpuexecutionprovider"))
    _check(workers, threads, gpus, part, address)
    out = Path(out).absolute()
    identity = _identity(load(pose, detector, threads=1, **config))  # errors of the models come before all else
    addresses = find_addresses([images] if isinstance(images, str) else images)
    with taken(out, identity) as word:
        finished = done(out, set(addresses), again)
        todo = [each for each in addresses if each not in finished]
        found = Found(earlier=len(finished), earlier_failed=list(finished.values()).count(False))
        if todo:
            for name, model in ((POSE, pose), (DETECTOR, detector)):
                write_bytes(out / name, bytes(model) if isinstance(model, BYTES) else resolve(model).read_bytes())
            order = _Order(out, word, _common(todo), {"threads": threads, "providers": [provider], **config})
            hands = _Hands(workers, threads, gpus, may_grow=address is not None or ray.is_initialized())
            with _cluster(address):
                for row in _looked_at(todo, order, hands, part):
                    found.count(row)
                    progress(found.earlier + found.pictures, len(addresses))
    return found


@dataclass(frozen=True)
class _Order:
    """What a process must know: where to write and the word for it, what lies below which folder, how to look."""

    out: Path
    word: str
    photos: Path | None
    how: dict[str, Any]
    version: str = stagepose.__version__

    def refuse_elsewhere(self) -> None:
        """:class:`StagePoseError` on a machine that is not like the others."""
        if stagepose.__version__ != self.version:
            raise StagePoseError(f"StagePose is {stagepose.__version__} on the machine {platform.node()}, and "
                                 f"{self.version} where the run was begun; install the same on all")
        for folder, what in ((self.out / NOTE, self.out), (self.photos, self.photos)):
            if folder is not None and not folder.exists():
                raise StagePoseError(f"{printable(what)}: is not there on the machine {platform.node()}; choose a "
                                     "folder that all machines see under one path")


@dataclass(frozen=True)
class _Hands:
    """Who does the work: ``workers`` processes, or None for as many as there is room for now."""

    workers: int | None
    threads: int
    gpus: float
    may_grow: bool  # machines may join the cluster later

    def most(self) -> int:
        """So many processes; :class:`ConfigError` where no machine has room for one, and none will."""
        if self.workers is not None and self.may_grow:
            return self.workers
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = sum(self._room(machine) for machine in machines)
        if not room:
            raise ConfigError(f"a process wants {self.threads} CPUs and {self.gpus:g} GPUs, and none of the cluster's "
                              f"{len(machines)} machines has so many; ask for fewer"
                              + (", or say --workers for a cluster that is still to grow" if self.may_grow else ""))
        return room if self.workers is None else min(self.workers, room)

    def _room(self, machine: Mapping[str, float]) -> int:
        room = machine.get("CPU", 0) // self.threads
        if self.gpus:
            room = min(room, (machine.get("GPU", 0) + 1e-9) // self.gpus)
        return int(room)


class _Attempts:
    """Beside the driver: what was begun and not ended, so that a picture that kills processes is given up."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, what: str) -> int:
        """How many times this has been begun, with this time."""
        self._begun[what] += 1
        return self._begun[what]

    def end(self, what: str) -> None:
        self._begun.pop(what, None)  # gone where this actor was restarted


class _Worker:
    """One process: writes the part that it is given, and tells what is in it.

    An error of ours that ends the run is told as well: of what is raised Ray keeps the text alone.
    """

    def __init__(self, order: _Order, attempts: Any) -> None:
        self.order, self.attempts = order, attempts
        self.broken: StagePoseError | None = None
        try:
            order.refuse_elsewhere()
            self.finder = FindPeople(order.out / POSE, order.out / DETECTOR, column=IMAGE, **order.how)
        except StagePoseError as error:
            self.broken = error

    def __call__(self, pictures: pa.Table) -> pa.Table:
        try:
            if self.broken is not None:
                raise self.broken
            return self._part(pictures)
        except StagePoseError as error:
            return _counts(fatal=pickle.dumps(error))

    def _part(self, pictures: pa.Table) -> pa.Table:
        addresses = pictures.column(IMAGE).to_pylist()
        first = ray.get(self.attempts.begin.remote(addresses[0])) == 1
        rows = [self._row(address, fetched, first)
                for address, fetched in zip(addresses, self.finder.fetched(addresses), strict=True)]
        refuse_broken(rows)
        write_part(self.order.out, with_columns(pictures, rows), self.order.word)
        ray.get(self.attempts.end.remote(addresses[0]))
        errors = [row["error"] for row in rows if "error" in row]
        people = sum(len(row.get("people", ())) for row in rows)
        return _counts(pictures=len(rows), people=people, failed=len(errors), errors=errors[:SHOWN])

    def _row(self, address: str, fetched: Fetched, first: bool) -> dict[str, Any]:
        """A part is begun a second time because a process died at it: now every picture is marked."""
        if first:
            return self.finder.look(*fetched)
        mark = f"one {address}"
        if ray.get(self.attempts.begin.remote(mark)) == DEATHS:  # the first died without a mark
            return {"error": f"{printable(address)}: the process that looked at it died, {DEATHS} times; look at it "
                             "alone: stagepose predict"}
        row = self.finder.look(*fetched)
        ray.get(self.attempts.end.remote(mark))
        return row


def _counts(**row: Any) -> pa.Table:
    return pa.Table.from_pylist([row], COUNTS)


def _looked_at(todo: Sequence[str], order: _Order, hands: _Hands, part: int) -> Iterator[dict[str, Any]]:
    """A row of counts for every part, in the order in which they are written."""
    most = hands.most()
    part = min(part, -(-len(todo) // (PARTS_EACH * most)))  # a few pictures are shared out too
    tables = [pa.table({IMAGE: pa.array(todo[i : i + part], pa.string())}) for i in range(0, len(todo), part)]
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    attempts = ray.remote(_Attempts).options(num_cpus=0, max_restarts=-1, max_task_retries=-1,
                                             scheduling_strategy=here).remote()
    try:
        parts = ray.data.from_arrow(tables).map_batches(
            _Worker, fn_constructor_args=(order, attempts), batch_size=None, batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most), num_cpus=hands.threads,
            num_gpus=hands.gpus or None)
        parts.context.enable_progress_bars = parts.context.print_on_execution_start = False
        for row in parts.iter_rows():
            if row["fatal"] is not None:
                raise pickle.loads(row["fatal"])  # of our own workers
            yield row
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise StagePoseError(f"the cluster ended the run: {printable(last)}; the same command goes on with it"
                             ) from error


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Ray as the caller has it; else a connection, or cores of this machine, until the end."""
    if ray.is_initialized():
        yield
        return
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # its file in the session's folder has all; here errors are ours
            handler.setLevel(logging.CRITICAL)
    at_end = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:  # the dashboard lets anybody who reaches it run code
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong comes as an exception too
            ray.init("local", num_cpus=available_cores(), include_dashboard=False, log_to_driver=False,
                     logging_level="error")
        else:
            ray.init(address, log_to_driver=False, logging_level="error")
    except Exception as error:  # of many kinds: no answer, other versions, no room for its files
        advice = "Ray cannot start here" if address is None else f"{address}: no cluster that could be joined"
        raise StagePoseError(f"{advice}: {printable(str(error).strip())}") from error
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, at_end)  # Ray puts its own there
        yield
    finally:
        ray.shutdown()


def _common(addresses: Sequence[str]) -> Path | None:
    """The folder that all pictures named by path lie in."""
    paths = [os.path.dirname(each) for each in addresses if not is_uri(each)]  # noqa: PTH120 - of millions
    return Path(os.path.commonpath(paths)) if paths else None


def _identity(predictor: Predictor) -> dict[str, Any]:
    """What the rows hang on: not how many people a network takes at once, nor which pictures are too large."""
    assert isinstance(predictor.detector, DetectorModel)
    settings = asdict(predictor.config) | {"threshold": predictor.threshold}
    del settings["batch"], settings["max_pixels"]
    return {"StagePose": stagepose.__version__, "pose": predictor.info.identity,
            "detector": predictor.detector.info.identity, **settings}


def _check(workers: int | None, threads: int, gpus: float, part: int, address: str | None) -> None:
    for name, value in (("workers", 1 if workers is None else workers), ("threads", threads), ("part", part)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; use a whole number from 1 on")
    if not 0 <= gpus < float("inf") or (gpus > 1 and gpus != int(gpus)):
        raise ConfigError(f"gpus is {gpus}; use a whole number, or a part such as 0.5 for two processes on a GPU")
    if address is not None and address.startswith("ray://"):
        raise ConfigError(f"address is {address}: Ray Data does not work through Ray Client; run the command on a "
                          "machine of the cluster, with --address auto, or send it there with 'ray job submit'")
