"""`harness sweep`: methods × rates × seeds, each compressed and benched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.commands.interruption import going_on
from harness.commands.options import Address, AsJson

if TYPE_CHECKING:
    from harness.sweep.cache import Cache
    from harness.sweep.cells import Cell
    from harness.sweep.executors import Executor
    from harness.sweep.plan import SweepPlan
    from harness.sweep.spec import Spec

EPILOG = """
SPEC.toml, for example:

\b
    models = ["resnet18x16-at"]
    seeds = [0, 1]
    [[methods]]
    name = "hydra"
    rates = [0.9, 0.95]
    [[methods]]
    name = "ptq-int8"
    [bench]
    device = "host"
    samples = 256

A model of your own: models = [{model = "my.safetensors", arch = "resnet18", normalize = "imagenet"}]

Every key: docs/recipes-and-sweeps.md in the repository. Keys of [bench] are the options of harness bench, in the plural where repeatable.

Example: harness sweep sweep.toml --dry-run

Started again, a sweep goes on where it was: nothing is trained or attacked twice, in other sweeps too.
Exit codes: 0 every cell finished · 2 wrong usage or input · 3 a cell failed
"""


def sweep(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="what to do, see below")],
    out: Annotated[Path | None, typer.Option(help="folder for sweep.json and the report [default: sweeps/NAME]")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder of finished results [default: ~/.cache/edge-harness/sweep]")] = None,
    executor: Annotated[Literal["local", "ray"], typer.Option(help="who does the work: this process, or a Ray cluster")] = "local",
    address: Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the cells, and what of them is there already")] = False,
    remeasure: Annotated[bool, typer.Option("--remeasure", help="bench again what has a latency that does not count")] = False,
    as_json: AsJson = False,
) -> None:
    """Compress in many ways, bench each, say which to take. The ways are methods, rates and seeds, of one model or more."""
    from harness import plugins
    from harness.errors import UsageError
    from harness.run import RunFolder
    from harness.sweep.cache import Cache
    from harness.sweep.cells import cells
    from harness.sweep.plan import SweepPlan
    from harness.sweep.run import Sweep, check_out
    from harness.sweep.spec import load_spec

    if address is not None and executor != "ray":
        raise UsageError(f"--address {address} is for --executor ray")
    plugins.load(())
    wanted = load_spec(spec)
    found = cells(wanted)
    folder = out or Path("sweeps") / wanted.name
    store = Cache(cache) if cache else Cache.default()
    if not dry_run:
        store.check()
        check_out(folder, wanted.name)
    worker = _executor(executor, store, wanted, address, cache)
    try:
        plan = SweepPlan(wanted, store, worker.place, remeasure)
        if dry_run:
            _show_cells(found, plan, as_json)
            return
        with going_on(), RunFolder(folder):
            check_out(folder, wanted.name)  # whoever held it may have begun another since
            record = Sweep(wanted, found, plan, worker, folder, ["harness", *sys.argv[1:]]).run()
    finally:
        worker.close()
    if as_json:
        print(record.model_dump_json(indent=1, by_alias=True))
    else:
        from reports.sweep_terminal import print_sweep

        print_sweep(record)
        for file in ("report.html", "report.md", "sweep.json"):
            print(folder / file)
    raise typer.Exit(record.exit_code)


def _executor(name: str, cache: Cache, spec: Spec, address: str | None, root: Path | None) -> Executor:
    from harness.compute.ray_cluster import check_ray
    from harness.data.load import NAMES
    from harness.errors import UsageError
    from harness.sweep.executors import Local

    if name == "local":
        return Local(cache, spec.resources.cpus)
    for images in (spec.compress.data, spec.compress.test, spec.bench.data):
        if images not in NAMES and Path(images).is_dir():
            raise UsageError(f"{images}: a folder of images does not travel to the nodes of a Ray cluster; write it as an .npz")
    check_ray()
    from harness.sweep.on_ray import OnRay

    return OnRay(cache, spec.resources.cpus, spec.resources.gpus, spec.bench.device, address, root)


def _show_cells(cells: list[Cell], plan: SweepPlan, as_json: bool) -> None:
    """Every cell with what is in the cache of it: one line each, or JSON."""
    import json

    from harness.sweep.figures import kept_row

    rows = []
    for cell in cells:
        network = plan.network(cell)
        run = None if network is None else kept_row(plan, cell, network, plan.bench(cell, network))
        rows.append({"cell": cell.label, "network": "cached" if network else "to train", "bench": "cached" if run else "to do"})
        if cell.request is None:
            rows[-1]["network"] = "given"
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    width = max(len(row["cell"]) for row in rows)
    for row in rows:
        print(f"{row['cell']:{width}}  network {row['network']:8}  bench {row['bench']}")
    print(
        f"{len(rows)} cells: {sum(r['network'] == 'to train' for r in rows)} to train, {sum(r['bench'] == 'to do' for r in rows)} to bench"
    )
