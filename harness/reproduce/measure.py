"""Latency and memory of our networks' engines on a device: a bench without attacks each, kept in the cache of sweeps."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.reproduce.networks import Network
from harness.settings import DEFAULT_EPS
from harness.sweep.cache import Cache
from harness.sweep.cells import Cell
from harness.sweep.executors import Local
from harness.sweep.figures import row
from harness.sweep.plan import Plan
from harness.sweep.spec import BenchSpec, Model, Spec

if TYPE_CHECKING:
    from harness.reproduce.run import Options


@dataclass(frozen=True)
class Engine:
    """One engine of one network; None where the device gave no figure."""

    network: Network
    flavour: str
    latency_ms: float | None
    memory_bytes: int | None


def engines(networks: Sequence[Network], options: Options, cache: Cache) -> list[Engine]:
    """Every engine of every network, measured now unless that is kept. What fails is told and left out."""
    models = tuple(Model(model=str(network.file), arch=network.arch) for network in networks)
    bench = BenchSpec(device=str(options.device), attacks=(), data=options.data, batches=(1,), seed=options.seed)
    return list(_measured(networks, Spec(name="reproduce", models=models, bench=bench), cache))


def _measured(networks: Sequence[Network], spec: Spec, cache: Cache) -> Iterator[Engine]:
    worker = Local(cache, None)
    plan = Plan(spec, cache, worker.place)
    for number, (network, model) in enumerate(zip(networks, spec.models, strict=True)):
        cell = Cell(number, network.name, model, None, DEFAULT_EPS)
        found = plan.network(cell)
        assert found is not None  # noqa: S101  # a network that is given is there
        bench = plan.bench(cell, found)
        if plan.run(bench) is None:
            print(f"[{number + 1}/{len(networks)}] {network.name} on {spec.bench.device}", file=sys.stderr)
            worker.start(bench, number)
            _, outcome = worker.next()
            if outcome.error is not None:
                print(f"{network.name}: not measured: {outcome.error}", file=sys.stderr)
                continue
        folder = plan.run(bench, fresh=True)
        assert folder is not None  # noqa: S101  # made just now
        for engine in row(cell, found, folder).engines:
            if engine.latency_invalid is not None:
                print(f"{network.name}, {engine.flavour}: its latency does not count: {engine.latency_invalid}", file=sys.stderr)
            yield Engine(network, engine.flavour, engine.latency_ms.get("1"), engine.memory_bytes)
