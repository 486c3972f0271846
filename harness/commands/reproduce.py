"""`harness reproduce`: the benchmarking paper's tables beside ours, and its claims answered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.interruption import going_on
from harness.commands.options import AsJson, Seed

if TYPE_CHECKING:
    from harness.reproduce.run import Reproduction

EPILOG = """
A row of the paper that no network stands beside is marked missing, with the command that makes one; name its folder with --networks.
The first run attacks every network (minutes each on a CPU); what is done is kept, and a second run is immediate.

Example: harness reproduce --samples 100 --networks networks/ --device host
"""


def reproduce(
    samples: Annotated[int, typer.Option(help="attacked images")] = 256,
    data: Annotated[str, typer.Option(help="cifar10-sample, cifar10 or FILE.npz (images, labels)")] = "cifar10-sample",
    networks: Annotated[
        list[Path] | None, typer.Option(help="folder of more networks, NAME.safetensors with its card NAME.json; repeatable")
    ] = None,
    device: Annotated[str | None, typer.Option(help="bench every network's engines there too: robustness, latency, memory")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder of finished results [default: ~/.cache/edge-harness/sweep]")] = None,
    out: Annotated[Path, typer.Option(help="folder for reproduce.json and the report")] = Path("reproduce"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show which networks stand where, and what is done already")] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Print the paper's tables 3 to 8 beside ours. Marks where they do not hold, and answers the paper's three claims."""
    from harness.models.shipped import WEIGHTS
    from harness.reproduce.run import ReproduceOptions, Reproduction
    from harness.reproduce.run import reproduce as run
    from harness.run import RunFolder
    from harness.settings import check_folder
    from harness.sweep.cache import Cache

    options = ReproduceOptions(samples=samples, data=data, seed=seed, folders=(WEIGHTS, *(networks or ())), device=device)
    store = Cache(cache) if cache else Cache.default()
    work = Reproduction(options, store)
    work.check()
    if dry_run:
        _show(work, as_json)
        return
    check_folder("--out", out)
    store.check()
    from reports.reproduce import render_reproduction

    with going_on(), RunFolder(out):
        record = run(options, store, ["harness", *sys.argv[1:]])
        record.save(out)
        files = render_reproduction(record, out)
    if as_json:
        print(record.model_dump_json(indent=1, by_alias=True))
        return
    from reports.reproduce_terminal import print_reproduction

    print_reproduction(record)
    for file in files:
        print(file)


def _show(work: Reproduction, as_json: bool) -> None:
    """Each row with our networks and how many of their evaluations are kept, or the command that makes one."""
    import json

    from harness.reproduce.networks import command
    from harness.reproduce.run import ATTACKS

    if as_json:
        rows = [(row.name, network) for row in work.paper.row for network in work.rows[row.name]]
        rows += [("", network) for network in work.networks if network not in [other for _, other in rows]]
        done = [{"row": name, "network": one.name, "done": len(work.known(one)), "attacks": len(ATTACKS)} for name, one in rows]
        missing = [{"row": row.name, "missing": command(row.ours, work.paper)} for row in work.paper.row if not work.rows[row.name]]
        print(json.dumps([*done, *missing], indent=1))
        return
    progress = {one.sha256: f"{one.name} ({len(work.known(one))} of {len(ATTACKS)} attacks done)" for one in work.networks}
    for row in work.paper.row:
        found = ", ".join(progress[network.sha256] for network in work.rows[row.name])
        print(f"{row.name:20} {found or 'missing: ' + command(row.ours, work.paper)}")
    beside = {network.sha256 for own in work.rows.values() for network in own}
    for sha256, text in progress.items():
        if sha256 not in beside:
            print(f"{'(no row)':20} {text}")
