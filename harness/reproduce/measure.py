"""Our networks' engines on a device, attacked and measured: a bench each, kept in the cache of sweeps."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.reproduce.networks import Network
from harness.sweep.cache import Cache
from harness.sweep.cells import Cell
from harness.sweep.executors import Local
from harness.sweep.figures import kept_row
from harness.sweep.plan import SweepPlan
from harness.sweep.record import CellRow
from harness.sweep.spec import BenchSpec, Model, Spec

if TYPE_CHECKING:
    from harness.reproduce.run import ReproduceOptions


def engines(networks: Sequence[Network], options: ReproduceOptions, attacks: tuple[str, ...], eps: str, cache: Cache) -> list[CellRow]:
    """Every network with its engines, benched now unless that is kept. What fails is told and left out."""
    models = tuple(Model(model=str(network.file), arch=network.arch) for network in networks)
    bench = BenchSpec(
        device=str(options.device), attacks=attacks, data=options.data, samples=options.samples, batches=(1,), seed=options.seed
    )
    return list(_benched(networks, Spec(name="reproduce", models=models, bench=bench), eps, cache))


def _benched(networks: Sequence[Network], spec: Spec, eps: str, cache: Cache) -> Iterator[CellRow]:
    worker = Local(cache, None)
    plan = SweepPlan(spec, cache, worker.place)
    for number, (network, model) in enumerate(zip(networks, spec.models, strict=True)):
        cell = Cell(number, network.name, model, None, eps)
        found = plan.network(cell)
        assert found is not None  # noqa: S101  # a network that is given is there
        bench = plan.bench(cell, found)
        seen = kept_row(plan, cell, found, bench)
        if seen is None:
            print(f"[{number + 1}/{len(networks)}] {network.name} on {spec.bench.device}", file=sys.stderr)
            worker.start(bench, number)
            _, outcome = worker.next()
            if outcome.error is not None:
                print(f"{network.name}: not measured: {outcome.error}", file=sys.stderr)
            seen = kept_row(plan, cell, found, bench, fresh=True)
        if seen is None:
            continue
        for engine in seen.engines:
            if engine.latency_invalid is not None:
                print(f"{network.name}, {engine.flavour}: its latency does not count: {engine.latency_invalid}", file=sys.stderr)
        yield seen
