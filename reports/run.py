"""A run folder as the reports see it: the record, and the raw values beside it when a figure needs them."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from harness.answers import Answers, Column, Matrix
from harness.errors import NO_ARRAYS, UntrustedError
from harness.records import RECORD, AttackRecord, EngineRecord, Latency, RunRecord
from reports.agreement import check_counts
from reports.naming import named, names
from reports.salvage import salvage

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

SAMPLES = "samples.parquet"
NOISE_SOURCE = "S0"  # random noise, the floor: no attack
UNLIKE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # what a field may raise that means another thing
GATE_SOURCE = "gate"  # a set that only a gate looks at: eps = 64/255
CLEAN_IMAGES = "adversarial/clean.npz"
COLUMNS = {
    "index": "int32",
    "label": "int32",
    "source": "str",
    "target": "str",
    "attack": "str",
    "eps": "str",
    "engine": "str",
    "twin_prediction": "int32",
    "engine_prediction": "int32",
    "twin_margin": "float32",
    "engine_margin": "float32",
    "linf": "float32",
    "l2": "float32",
}


@contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Raise UntrustedError for every way in which an .npz can be damaged."""
    try:
        yield
    except (OSError, *NO_ARRAYS) as error:
        raise UntrustedError(f"{path} is damaged: {error}") from error


@dataclass(frozen=True)
class Run:
    """A run folder. Raw files are read on first use; one that is absent is listed in `missing` and its figures are left out.

    `names`: engine -> what the record here calls it, where that differs (see `reports.naming`); `bare` is the record without that.
    `lost`: what could not be read of a record that is damaged or, where `newer` says what wrote it, of a newer schema; empty where all was.
    `faults`: what cannot be read -> what was left out for it; grows.
    """

    folder: Path
    record: RunRecord
    names: dict[str, str] = field(default_factory=dict)
    bare: RunRecord | None = None
    lost: str = ""
    newer: str = ""
    faults: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Read the record.

        Raises:
            UsageError: not a run folder.
            UntrustedError: the record is damaged or of an unknown schema.
        """
        record = RunRecord.load(folder)
        return cls(folder, named(record), names(record), record)

    @classmethod
    def open_what_is_left(cls, folder: Path) -> Run:
        """The same of a record that is damaged or of a newer schema: what can be read of it, without a verdict. Raises as `open` where that
        is nothing.
        """
        try:
            return cls.open(folder)
        except UntrustedError as error:
            if (found := salvage(folder)) is None:
                raise
            record = found.record
            return cls(folder, named(record), names(record), record, found.lost, found.newer, {str(error): []})

    def attempt(self, what: str, make: Callable[[], T], instead: T) -> T:
        """What `make` gives; where a file of the run is damaged, or a newer record does not hold what it needs, `instead`, and the fault is
        kept.
        """
        try:
            return make()
        except UntrustedError as error:
            fault = str(error)
        except UNLIKE:
            if not self.newer:
                raise
            fault = f"what they need is not in {RECORD} as this version knows it"
        self.faults.setdefault(fault, []).append(what)
        return instead

    @property
    def raw(self) -> RunRecord:
        """The record with the engines' own names."""
        return self.bare or self.record

    @cached_property
    def sha256(self) -> str:
        """Of `record.json` as it lies on the disk."""
        return hashlib.sha256((self.folder / RECORD).read_bytes()).hexdigest()

    def shown(self, engine: str) -> str:
        """What an engine is called here."""
        return self.names.get(engine, engine)

    @cached_property
    def matrix(self) -> Matrix:
        """Everyone's answers.

        Raises:
            UntrustedError: a set is damaged, or sets or answers are not those that the record was made of.
        """
        columns = [Column(a, index) for a in self.raw.attacks if (index := self._of_set(a)) is not None]
        found = Matrix(Answers(self.folder), self.raw.data.sha256, columns)
        check_counts(found, self.raw, self.folder)
        return found

    @cached_property
    def missing(self) -> list[str]:
        """Files that the record speaks of and the folder does not hold."""
        files = [latency.raw for engine in self.record.engines for latency in engine.latency.values()]
        files += [engine.telemetry.raw for engine in self.record.engines if engine.telemetry]
        files += [attack.file for attack in self.record.attacks]
        if self.record.attacks:
            files.append(CLEAN_IMAGES)
        if self.record.transfer:
            files.append(SAMPLES)
        return [name for name in dict.fromkeys(files) if not self._path(name).is_file()]

    def norm(self, source: str, attack: str, eps: str) -> str:
        """The norm that a set is bounded in: "Linf" or "L2"."""
        return self._norms.get((source, attack, eps), "Linf")

    def radius(self, source: str, attack: str, eps: str) -> str:
        """The radius of a set as text; a minimum-norm attack has none."""
        return eps if self.norm(source, attack, eps) == "Linf" else "smallest L2"

    @cached_property
    def _norms(self) -> dict[tuple[str, str, str], str]:
        return {(a.source, a.name, a.eps_exact): a.norm for a in self.record.attacks}

    @cached_property
    def samples(self) -> pd.DataFrame:
        """`samples.parquet`, one row per image, attack and engine; no rows where the file is absent.

        Raises:
            UntrustedError: it cannot be read, or lacks a column.
        """
        import pandas as pd

        path = self.folder / SAMPLES
        if not path.is_file():
            return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
        try:
            frame = pd.read_parquet(path)
        except (OSError, *NO_ARRAYS) as error:  # pyarrow's errors are of these types too
            raise UntrustedError(f"{path} is damaged: {error}") from error
        if lacking := COLUMNS.keys() - frame.columns:
            raise UntrustedError(
                f"{path} lacks the columns {', '.join(sorted(lacking))}; has {', '.join(frame.columns)}. Written by another version?"
            )
        return frame.assign(engine=frame["engine"].map(self.shown)) if self.names else frame

    def latency_ms(self, latency: Latency) -> NDArray[np.float64] | None:
        """The raw durations behind one summary, in milliseconds, shape (n,); None where the file is absent."""
        arrays = self._arrays(latency.raw, "latency_ns")
        return None if arrays is None else arrays["latency_ns"].astype(np.float64) / 1e6

    def rounds(self, latency: Latency) -> NDArray[np.int64] | None:
        """The round of each timed call, (n,); None where the file is absent, or does not tell."""
        arrays = self._arrays(latency.raw)
        return None if arrays is None or len(arrays.get("round", ())) != len(arrays["latency_ns"]) else arrays["round"].astype(np.int64)

    def calls(self, latency: Latency) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """When each timed call began (nanoseconds of the worker's clock) and how long it took (milliseconds), both (n,).

        None where the file is absent, or does not tell when the calls began.
        """
        arrays = self._arrays(latency.raw)
        if arrays is None or len(arrays.get("start_ns", ())) != len(arrays["latency_ns"]):
            return None
        return arrays["start_ns"].astype(np.float64), arrays["latency_ns"].astype(np.float64) / 1e6

    def telemetry(self, engine: EngineRecord) -> dict[str, NDArray[Any]] | None:
        """One engine's raw samples, `PROVIDER/time_ns` and `PROVIDER/KIND:NAME`, with `idle_ns`; None where the file is absent."""
        return None if engine.telemetry is None else self._arrays(engine.telemetry.raw)

    def positions(self, name: str) -> NDArray[np.int64] | None:
        """Which images a stored file of images holds, int64 (n,); None where it is absent."""
        arrays = self._arrays(name, "index")
        return None if arrays is None else arrays["index"]

    def _of_set(self, attack: AttackRecord) -> NDArray[np.int64] | None:
        """Which images a set holds, int64 (n,); None where it is absent. Raises UntrustedError: its file says that it is another one."""
        if (index := self.positions(attack.file)) is None:
            return None
        path = self._path(attack.file)
        with _undamaged(path), np.load(path, allow_pickle=False) as stored:
            found = json.loads(str(stored["record"]))["set_sha256"] if "record" in stored.files else attack.set_sha256
        if found != attack.set_sha256:
            raise UntrustedError(f"{path} is another set ({found[:12]}…) than the record's ({attack.set_sha256[:12]}…). Run again.")
        return index

    def image(self, name: str, position: int) -> NDArray[np.uint8] | None:
        """One image, uint8 (h, w, c), of a stored file; None where the file is absent or does not hold it. The others are not kept."""
        positions = self.positions(name)
        if positions is None or not (rows := np.flatnonzero(positions == position)).size:
            return None
        with _undamaged(path := self._path(name)), ZipFile(path) as archive, archive.open("images.npy") as stream:
            np.lib.format.read_magic(stream)
            (_, *of_one), _, dtype = np.lib.format.read_array_header_1_0(stream)
            size = math.prod(of_one) * dtype.itemsize
            stream.seek(int(rows[0]) * size, io.SEEK_CUR)
            return np.frombuffer(stream.read(size), np.uint8).reshape(of_one)

    def _path(self, name: str) -> Path:
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise UntrustedError(f"the record names '{name}', which is outside the run folder {self.folder}")
        return path

    def _arrays(self, name: str, *keys: str) -> dict[str, NDArray[Any]] | None:
        path = self._path(name)
        if not path.is_file():
            return None
        with _undamaged(path), np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in keys or stored.files}
