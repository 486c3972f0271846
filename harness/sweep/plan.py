"""What a sweep has to do: each cell's keys, and what the cache has of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from export.artefact import sha256_file
from harness.compression.table import find_method
from harness.data.load import load_all, load_data
from harness.errors import UntrustedError
from harness.records import RunRecord
from harness.settings import Settings
from harness.stages.names import find_profile
from harness.sweep.cache import Cache
from harness.sweep.cells import Cell, load_model
from harness.sweep.keys import BENCHING, code, digest, model_key, network_key
from harness.sweep.spec import Model, Spec
from harness.sweep.tasks import NETWORKS, RUNS, Bench, MakeNetwork

DECIDED_ELSEWHERE = {"model", "arch", "data"}  # settings whose content stands in the key instead of their name
TRY_AGAIN = {"crashed", "hung"}  # engines that may do better another time


@dataclass(frozen=True)
class CellNetwork:
    """A network that is there: its file with what must be told of it, the images it takes, and its card ({} for a file without one)."""

    model: Model
    input_shape: tuple[int, int, int]
    sha256: str
    card: dict[str, Any]


@dataclass(frozen=True)
class SweepPlan:
    """The tasks of a sweep's cells.

    Attributes:
        place: see `harness.sweep.executors.machine`.
        remeasure: bench again what has a latency that does not count.
    """

    spec: Spec
    cache: Cache
    place: str
    remeasure: bool = False

    def make(self, cell: Cell) -> MakeNetwork | None:
        """How to make the cell's network; None for a parent."""
        if cell.request is None:
            return None
        training = self._training_sha256 if find_method(cell.request.method).stages else None
        key, stages = (
            network_key(request, training, self._card_sha256)
            for request in (cell.request, cell.request.model_copy(update={"until": None, "test": ""}))
        )
        return MakeNetwork(key, cell.label, cell.request, stages)

    def network(self, cell: Cell) -> CellNetwork | None:
        """The cell's network, None where it has to be made. Raises UntrustedError: that in the cache is another, or damaged."""
        make = self.make(cell)
        if make is None:
            twin = load_model(cell.parent, self.spec)
            return CellNetwork(cell.parent, twin.input_shape, twin.sha256, twin.card)
        folder = self.cache.find(NETWORKS, make.key)
        if folder is None:
            return None
        try:
            (file,) = folder.glob("*.safetensors")
            card, sha256 = json.loads(file.with_suffix(".json").read_text(encoding="utf-8")), sha256_file(file)
            if card["sha256"] != sha256:
                raise ValueError(f"its weights have sha256 {sha256[:12]}…, its card says {card['sha256'][:12]}…")
            model = Model(model=str(file), arch=card["arch"], classes=card["classes"], normalize=card["normalize"])
            return CellNetwork(model, tuple(card["input_shape"]), sha256, card)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UntrustedError(
                f"the network of {cell.label} in the cache is damaged: {error}. Remove {folder}, and run again."
            ) from error

    def bench(self, cell: Cell, network: CellNetwork) -> Bench:
        """How to bench it."""
        settings = self.spec.bench.settings(network.model, cell.eps)
        key = self._run_key(settings)
        return Bench(key, cell.label, settings, anew=self.cache.find(RUNS, key) is not None)

    def run(self, bench: Bench, *, fresh: bool = False) -> Path | None:
        """The run folder of a bench, None where it has to be made. Unless `fresh`, one that may do better next time does not count."""
        folder = self.cache.find(RUNS, bench.key)
        if folder is None or fresh:
            return folder
        engines = RunRecord.load(folder).engines
        invalid = any(latency.invalid for engine in engines for latency in engine.latency.values())
        again = any(engine.status in TRY_AGAIN for engine in engines) or (self.remeasure and invalid)
        return None if again else folder

    def _run_key(self, settings: Settings) -> str:
        return digest(
            {
                "model": model_key(settings.model, settings.arch),
                "arch": settings.arch,
                "settings": settings.model_dump(mode="json", exclude=DECIDED_ELSEWHERE),
                "data": self._bench_sha256,
                "device": find_profile(settings.device, emulate=settings.emulate, host=settings.host),
                "machine": self.place,
                "code": code(BENCHING),
            }
        )

    @cached_property
    def _training_sha256(self) -> str:
        return load_all(self.spec.compress.data).sha256

    @cached_property
    def _card_sha256(self) -> str:
        return load_data(self.spec.compress.test, input_shape=None, classes=None, seed=0)[0].sha256

    @cached_property
    def _bench_sha256(self) -> str:
        twin = load_model(self.spec.models[0], self.spec)
        test, calibration = load_data(
            self.spec.bench.data, input_shape=twin.input_shape, classes=None, seed=self.spec.bench.seed, resize=twin.resize
        )
        return f"{test.sha256} {calibration.sha256}"
