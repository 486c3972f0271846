"""The two things a sweep does with a network: make it, and bench it. Each ends as one entry of the cache.

A task's `kind` and `key` say where in the cache, `label` whose it is. `files` are those it reads, by what they are to it: a task on another
machine gets copies, and is the same task with its files `moved`.
"""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from devices.host.errors import DeviceError
from export.errors import ExportError
from harness.compression.compress import compress
from harness.compression.request import Request
from harness.errors import HarnessError
from harness.models.shipped import cards
from harness.records import RECORD
from harness.settings import Settings
from harness.spine import bench, resume
from harness.sweep.cache import Cache

NETWORKS, STAGES, RUNS = "networks", "stages", "runs"


@dataclass(frozen=True)
class MakeNetwork:
    """`harness compress`: the entry is LABEL.safetensors and its card LABEL.json.

    `stages` is the key of its checkpoints: the same for a method that is stopped after a stage and for the whole, which goes on from there.
    """

    key: str
    label: str
    request: Request
    stages: str
    kind: str = NETWORKS

    def files(self) -> dict[str, Path]:
        """Models, recipe and images that are files."""
        return _files(self.request.model_dump(include={"model", "standard_teacher", "recipe", "data", "test"}))

    def moved(self, files: Mapping[str, str]) -> MakeNetwork:
        """The same task with its files elsewhere."""
        return replace(self, request=self.request.model_copy(update=dict(files)))

    def perform(self, cache: Cache) -> None:
        """Train; every stage goes on after its last finished epoch."""
        with cache.making(self.kind, self.key) as folder:
            if folder is None:
                return
            with cache.holding(STAGES, self.stages) as stages:
                if not any(folder.glob("*.json")):  # the card comes last: with it, a process died when all was done
                    for weights in folder.glob("*.safetensors"):
                        weights.unlink()
                    compress(self.request, folder / f"{self.label}.safetensors", work=stages)
                if self.request.until is None:
                    shutil.rmtree(stages, ignore_errors=True)


@dataclass(frozen=True)
class Bench:
    """`harness bench`: the entry is the run folder. `anew`: in place of the one that is there."""

    key: str
    label: str
    settings: Settings
    kind: str = RUNS
    command: list[str] = field(default_factory=lambda: ["harness", "sweep"])
    anew: bool = False

    def files(self) -> dict[str, Path]:
        """The network and the images, where they are files."""
        return _files(self.settings.model_dump(include={"model", "data"}))

    def moved(self, files: Mapping[str, str]) -> Bench:
        """The same task with its files elsewhere."""
        return replace(self, settings=self.settings.model_copy(update=dict(files)))

    def perform(self, cache: Cache) -> None:
        """Attack and measure."""
        with cache.making(self.kind, self.key, anew=self.anew) as folder:
            if folder is not None and (folder / RECORD).exists():
                resume(folder)
            elif folder is not None:
                bench(self.settings, folder, self.command)


Task = MakeNetwork | Bench


def _files(names: Mapping[str, str | None]) -> dict[str, Path]:
    zoo = cards()
    return {what: Path(name) for what, name in names.items() if name is not None and name not in zoo and Path(name).is_file()}


@dataclass(frozen=True)
class Outcome:
    """How a task ended. `error` is one line, None where all went well; `trace` the traceback of a fault of this program."""

    error: str | None = None
    trace: str = ""


def attempt(task: Task, cache: Cache, cpus: int | None) -> Outcome:
    """Perform a task on `cpus` threads; whatever it raises becomes its outcome, so that one cell's failure stops no other."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(cpus or before)
        task.perform(cache)
    except (HarnessError, ExportError, DeviceError) as error:
        return Outcome(str(error))
    except Exception as error:  # noqa: BLE001  # a fault of one cell, kept with its traceback
        return Outcome(one_line(error), traceback.format_exc())
    finally:
        torch.set_num_threads(before)
    return Outcome()


def one_line(error: BaseException) -> str:
    """An exception's kind and the first line of what it says."""
    text: Any = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {text[0]}"
