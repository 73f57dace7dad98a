"""A run over many pictures on a Ray cluster: it survives a bad picture, a killed process, and its own end."""

from __future__ import annotations

import logging
import os
import pickle
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before ray is imported: it tells its maker what runs here

import pyarrow as pa
import ray
import ray.data

import stagepose
from stagepose.cluster.addresses import find_addresses
from stagepose.cluster.find import READERS, FindPeople, with_columns
from stagepose.cluster.parts import FOLDER, IMAGE, done, remove_leftovers, write_part
from stagepose.cores import available_cores
from stagepose.errors import ConfigError, StagePoseError
from stagepose.files import held, write_bytes
from stagepose.images import printable
from stagepose.making.folder import claim
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, Model, Predictor, load
from stagepose.runtime import DetectorModel, resolve

NOTE, POSE, DETECTOR = "run.json", "pose.onnx", "detector.onnx"  # in OUT; the models as all machines use them
PART = 256  # pictures of a part; what a killed process does again
PARTS_EACH = 4  # at least, for every process, so that none waits long for the others at the end
TRIES = 3  # at a picture at which the process dies, before it is given up
SHOWN = 10  # errors that are told of; the parts have all
FORMAT = 1
COUNTS = pa.schema([("pictures", pa.int64()), ("people", pa.int64()), ("failed", pa.int64()),
                    ("errors", pa.list_(pa.string())), ("fatal", pa.binary())])

Progress = Callable[[int, int], None]


@dataclass
class Found:
    """How a run ended: counts of this process's pictures, and the first errors."""

    pictures: int = 0
    people: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)
    earlier: int = 0  # pictures that had a row before
    earlier_failed: int = 0

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

    Ray as it is initialized is used; else the cluster at ``address``, or by default this machine's cores alone.
    ``workers`` processes with ``threads`` each, by default as many as the cluster has room for; each reserves ``gpus``
    GPUs, one by default with another ``provider`` than cpu. ``part`` pictures are written at once. ``progress`` is told (done, all).
    ``config``: fields of :class:`stagepose.PredictorConfig`.

    Raises :class:`ConfigError` for a setting out of range, :class:`DatasetError` for a folder of another run,
    :class:`ImageError` where there are no pictures, :class:`StagePoseError` for what ends a run on a cluster.
    """
    gpus = float(provider != "cpu") if gpus is None else gpus
    _check(workers, threads, gpus, part)
    out = Path(out).absolute()
    predictor = load(pose, detector, threads=threads, providers=[provider], **config)  # before any machine is asked
    addresses = find_addresses([images] if isinstance(images, str) else images)
    claim(out, NOTE, _identity(predictor), "stagepose cluster")
    with _held(out):
        remove_leftovers(out)
        finished, earlier_failed = done(out, again)
        todo = [each for each in addresses if each not in finished]
        found = Found(earlier=len(addresses) - len(todo), earlier_failed=earlier_failed)
        if todo:
            for name, model in ((POSE, pose), (DETECTOR, detector)):
                write_bytes(out / name, model if isinstance(model, bytes) else resolve(model).read_bytes())
            how = {"threads": threads, "providers": [provider], **config}
            with _cluster(address):
                for row in _looked_at(todo, out, how, workers, gpus, part):
                    found.count(row)
                    progress(found.earlier + found.pictures, len(addresses))
    return found


class _Attempts:
    """Beside the driver: which picture was begun and not ended, so that one that kills processes is given up."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, picture: str, ended: str) -> int:
        """How many times this one has been begun, with this time; the one before has come to its end."""
        self.end(ended)
        self._begun[picture] += 1
        return self._begun[picture]

    def end(self, picture: str) -> None:
        self._begun.pop(picture, None)


class _Worker:
    """One process: writes the part that it is given, and tells what is in it."""

    def __init__(self, out: Path, attempts: Any, how: dict[str, Any]) -> None:
        if not (out / NOTE).is_file():
            raise StagePoseError(f"{printable(str(out))}: is not there on the machine {platform.node()}; choose a "
                                 "folder that all machines see under one path")
        self.finder = FindPeople(out / POSE, out / DETECTOR, column=IMAGE, **how)
        self.out, self.attempts = out, attempts

    def __call__(self, pictures: pa.Table) -> pa.Table:
        """A row of counts. An error of ours that ends the run is one of them: Ray would tell its text alone."""
        try:
            return self._part(pictures)
        except StagePoseError as error:
            return _counts(fatal=pickle.dumps(error))

    def _part(self, pictures: pa.Table) -> pa.Table:
        rows: list[dict[str, Any]] = []
        addresses, last = pictures.column(IMAGE).to_pylist(), ""
        for start in range(0, len(addresses), READERS):  # so that no more files than these are in memory
            few = addresses[start : start + READERS]
            for address, fetched in zip(few, self.finder.fetched(few), strict=True):
                tries = ray.get(self.attempts.begin.remote(address, last))
                rows.append(self.finder.look(*fetched) if tries <= TRIES else {"error": f"{printable(address)}: the "
                            f"process that looked at it died, {TRIES} times; look at it alone: stagepose predict"})
                last = address
        write_part(self.out, with_columns(pictures, rows))
        ray.get(self.attempts.end.remote(last))
        errors = [row["error"] for row in rows if "error" in row]
        people = sum(len(row.get("people", ())) for row in rows)
        return _counts(pictures=len(rows), people=people, failed=len(errors), errors=errors[:SHOWN])


def _counts(**row: Any) -> pa.Table:
    return pa.Table.from_pylist([row], COUNTS)


def _looked_at(todo: Sequence[str], out: Path, how: dict[str, Any], workers: int | None, gpus: float,
               part: int) -> Iterator[dict[str, Any]]:
    """A row of counts for every part, in the order in which they are written."""
    threads, most = how["threads"], _room(how["threads"], gpus)
    workers = most if workers is None else min(workers, most)
    part = min(part, -(-len(todo) // (PARTS_EACH * workers)))  # a few pictures are shared out too
    tables = [pa.table({IMAGE: pa.array(todo[i : i + part], pa.string())}) for i in range(0, len(todo), part)]
    attempts = ray.remote(_Attempts).options(num_cpus=0).remote()
    parts = ray.data.from_arrow(tables).map_batches(
        _Worker, fn_constructor_kwargs={"out": out, "attempts": attempts, "how": how}, batch_size=None,
        batch_format="pyarrow", compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers), num_cpus=threads,
        num_gpus=gpus or None)
    parts.context.enable_progress_bars = parts.context.print_on_execution_start = False
    try:
        for row in parts.iter_rows():
            if row["fatal"] is not None:
                raise pickle.loads(row["fatal"])  # of our own workers
            yield row
    except Exception as error:
        raise _as_ours(error) from error


def _room(threads: int, gpus: float) -> int:
    """Processes that the cluster has room for; :class:`ConfigError` where there is none."""
    there = ray.cluster_resources()
    cpus, gpus_there = there.get("CPU", 0), there.get("GPU", 0)
    room = int(min(cpus // threads, gpus_there // gpus if gpus else cpus))
    if not room:
        raise ConfigError(f"a process wants {threads} CPUs and {gpus:g} GPUs, and the cluster has {cpus:g} and "
                          f"{gpus_there:g}; ask for fewer")
    return room


def _as_ours(error: BaseException) -> BaseException:
    """What a worker said, without what Ray wraps it in; an error of neither ours nor Ray's as it is."""
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, StagePoseError):
        reason = getattr(reason, "cause", None) or reason.__cause__
    if reason is not None:
        return reason
    if isinstance(error, ray.exceptions.RayError):
        last = str(error).strip().splitlines()[-1]
        return StagePoseError(f"the cluster ended the run: {printable(last)}; the same command goes on with it")
    return error


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Ray as the caller has it; else a connection, or cores of this machine, until the end."""
    if ray.is_initialized():
        yield
        return
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # its file in the session's folder has all; here errors are ours
            handler.setLevel(logging.CRITICAL)
    try:
        if address is None:  # the dashboard lets anybody who reaches it run code
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong comes as an exception too
            ray.init("local", num_cpus=available_cores(), include_dashboard=False, log_to_driver=False,
                     logging_level="error")
        else:
            ray.init(address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, ray.exceptions.RayError) as error:
        raise StagePoseError(f"{address or 'local cluster'}: {printable(str(error).strip())}; check the address with "
                             "'ray status'") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """The folder, for this run alone."""
    with (out / NOTE).open("r+") as file:
        if not held(file):
            raise ConfigError(f"{printable(str(out))}: another run is at work there; wait for its end, or choose "
                              "another folder")
        (out / FOLDER).mkdir(exist_ok=True)
        yield


def _identity(predictor: Predictor) -> dict[str, Any]:
    """What the rows hang on."""
    assert isinstance(predictor.detector, DetectorModel)
    settings = asdict(predictor.config) | {"threshold": predictor.threshold}
    del settings["batch"]
    return {"format": FORMAT, "StagePose": stagepose.__version__, "pose": predictor.info.identity,
            "detector": predictor.detector.info.identity, **settings}


def _check(workers: int | None, threads: int, gpus: float, part: int) -> None:
    for name, value in (("workers", 1 if workers is None else workers), ("threads", threads), ("part", part)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; use a whole number from 1 on")
    if not 0 <= gpus < float("inf"):
        raise ConfigError(f"gpus is {gpus}; use a number from 0 on, such as 0.5 for two processes on a GPU")
