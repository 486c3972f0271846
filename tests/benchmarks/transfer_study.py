"""Does transfer alone flatter an INT8 engine, and by how much? Not a pytest test.

    python tests/benchmarks/transfer_study.py --samples 1000 --out runs/transfer-study --write docs/transfer-study.md

Every network of the zoo as an INT8 engine (exact integers, so every CPU gives the same answers), attacked at 8/255: by replay of the sets
made on the PyTorch twin (S1), and by all that its claim rests on (S3 along its own graph, S4 on the engine itself, and the same S4 on the
twin). A network whose run has finished in --out is not run again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from machine import machine_line

from harness.answers import TWIN
from harness.audit.paired import Paired, pair
from harness.models.shipped import cards
from harness.records import Claim, RunRecord, Step
from harness.sources import deciding
from reports.run import Run

FLAVOUR, EPS, MARGIN = "ort-int8-precise", Fraction(8, 255), 0.02
HEAD = """# Does transfer alone flatter an INT8 engine?

Written by `{command}` on {machine}. {done} of the zoo's {every} networks, tier `{tier}`, n = {n}, {eps}, engine `{flavour}`.

*Replay*: the sets made on the PyTorch twin by gradients, shown to the engine byte for byte. *Adaptive*: these, the same attacks along the
engine's own graph (S3), and attacks on the engine itself with the same attacks, starts and budgets on the twin (S4). Gap: the twin's
robust accuracy less the engine's, in points, with one-sided 95 % bounds (Tango). Flattered: by how much the gap grows when the engine is
attacked too; its bounds pair each image, and stand for each network alone: of twenty, one would lie beyond them by chance. A verdict of
UNTRUSTED says that a gate failed: its figures decide nothing.

{answer}

| network | verdict | twin | engine, replay | gap, replay | engine, adaptive | gap, adaptive | flattered by |
|---|---|--:|--:|--:|--:|--:|--:|
"""


def bench(name: str, folder: Path, samples: int, tier: str) -> RunRecord | None:
    """The finished run of a network in `folder`, made now where there is none; None where it could not be made."""
    if (folder / "record.json").exists() and (record := RunRecord.load(folder)).status == Step.FINISHED:
        return record
    options = ["--resume", str(folder)]
    if not (folder / "record.json").exists():
        options = [f"--model={name}", "--device=null", "--batch=1", f"--eps={EPS}", f"--samples={samples}", f"--tier={tier}"]
        options += ["--source=S1", "--source=S3", "--source=S4", f"--flavour={FLAVOUR}", "--builds=1", f"--out={folder}"]
    done = subprocess.run([sys.executable, "-m", "harness", "bench", *options], stdout=subprocess.DEVNULL, check=False)
    return RunRecord.load(folder) if done.returncode in (0, 1, 3) else None


def row(name: str, folder: Path, claim: Claim) -> tuple[str, float, float]:
    """A line of the table, the flattery in points and its lower bound."""
    matrix = Run.open(folder).matrix
    every = deciding(matrix.columns, claim.engine, EPS)
    replay = [column for column in every if column.record.source == "S1"]
    twin, twin_all = (matrix.worst_case(TWIN, columns) for columns in (replay, every))
    engine, engine_all = (matrix.worst_case(claim.engine, columns) for columns in (replay, every))
    fell, twin_fell = engine & ~engine_all, twin & ~twin_all
    flattered = pair(fell, twin_fell, MARGIN)
    cells = (
        f"`{name}`",
        str(claim.verdict),
        f"{100 * twin_all.mean():.1f} %",
        f"{100 * engine.mean():.1f} %",
        shown(pair(twin, engine, MARGIN)),
        f"{100 * engine_all.mean():.1f} %",
        shown(pair(twin_all, engine_all, MARGIN)),
        shown(flattered),
    )
    return f"| {' | '.join(cells)} |\n", 100 * flattered.gap, 100 * flattered.lower


def shown(one: Paired) -> str:
    """A difference of shares in points, with its bounds."""
    return f"{100 * one.gap:+.1f} [{100 * one.lower:+.1f}, {100 * one.upper:+.1f}]"


def answer(rows: list[tuple[str, float, float]]) -> Iterator[str]:
    """The finding in words, over the networks whose figures may be relied on."""
    values = np.array([flattered for _, flattered, _ in rows])
    if not len(values):
        yield "No network with a verdict that may be relied on."
        return
    beyond = sum(low > 0 for _, _, low in rows)
    yield f"Of {len(rows)} networks with a sound verdict, transfer alone flatters {beyond} beyond chance."
    yield f"The flattery is {np.median(values):.1f} points in the median, {values.min():.1f} to {values.max():.1f}."


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=list(cards()))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--tier", default="bench")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer-study"))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rows: list[tuple[str, float, float]] = []
    sound: list[tuple[str, float, float]] = []
    for name in options.model:
        record = bench(name, options.out / name, options.samples, options.tier)
        if record is None or not record.claims or record.claims[0].engine_robust is None:
            print(f"{name}: no claim was judged", file=sys.stderr)
            continue
        rows.append(row(name, options.out / name, record.claims[0]))
        if record.claims[0].verdict.sound:
            sound.append(rows[-1])
        print(rows[-1][0], end="", flush=True)
    command = f"python tests/benchmarks/transfer_study.py --samples {options.samples} --tier {options.tier} --write docs/transfer-study.md"
    if len(options.model) < len(cards()):
        command += f" --model {' '.join(options.model)}"
    head = HEAD.format(
        command=command, machine=machine_line(), done=len(rows), every=len(cards()), tier=options.tier, n=options.samples, eps=EPS,
        flavour=FLAVOUR, answer=" ".join(answer(sound)),
    )  # fmt: skip
    text = head + "".join(line for line, _, _ in rows)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
