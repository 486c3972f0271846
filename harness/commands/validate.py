"""`harness validate`: what others published, beside this program's own figures."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.interruption import going_on
from harness.commands.options import AsJson, Data, Seed
from harness.errors import unknown

SAMPLE = "cifar10-sample"
EPILOG = """
Checks: saturation, one-bit, precisions, int8, differential, tiny, paper

Exit codes: 0 every check was answered, whatever the answer · 3 one could not be run here

Example: harness validate --only tiny --only saturation
"""


def validate(
    only: Annotated[list[str] | None, typer.Option(help="this check alone, repeatable [default: all]")] = None,
    samples: Annotated[int, typer.Option(help="attacked images")] = 256,
    data: Data = SAMPLE,
    out: Annotated[Path, typer.Option(help="folder of the runs; what is finished there is not run again")] = Path("validation"),
    cache: Annotated[Path | None, typer.Option(help="folder of finished attacks [default: ~/.cache/edge-harness/sweep]")] = None,
    write: Annotated[Path | None, typer.Option(help="write the table here as Markdown, such as docs/validation.md")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Hold this program against what others published. Each is confirmed, refuted or not comparable, with both figures."""
    from devices.worker.environment import describe_machine
    from harness.run import RunFolder
    from harness.settings import check_file, check_folder, check_seed
    from harness.sweep.cache import Cache
    from harness.validate.ground import Ground
    from harness.validate.report import line, markdown
    from harness.validate.table import CHECKS

    check_file("--write", write)
    check_folder("--out", out)
    check_seed(seed)
    for name in only or ():
        if name not in CHECKS:
            raise unknown("check", name, CHECKS)
    ground = Ground(samples, seed, data, out, Cache(cache) if cache else Cache.default())
    ground.cache.check()
    _ = ground.bench  # refuses what cannot be meant before any work
    rows = {}
    with going_on(), RunFolder(out):
        for check in CHECKS.values():
            if not only or check.name in only:
                rows[check] = check.answer(ground)
                print(line(check, rows[check]), file=sys.stderr if as_json else sys.stdout, flush=True)
    if write is not None:
        machine = describe_machine()
        images = [f"--data {data}"] if data != SAMPLE else []
        command = " ".join(
            ["harness validate", *(f"--only {name}" for name in only or ()), f"--samples {samples}", *images, f"--seed {seed}"]
        )
        write.write_text(markdown(rows, command, str(machine["cpu_model"])), encoding="utf-8")
    if as_json:
        answers = [
            {"name": c.name, "statement": c.statement, "published": c.figure, "source": c.source, **asdict(f)} for c, f in rows.items()
        ]
        print(json.dumps(answers, indent=1))
    if any(finding.outcome == "not run" for finding in rows.values()):
        raise typer.Exit(3)
