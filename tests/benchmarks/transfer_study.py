"""Does transfer alone flatter an INT8 engine, and by how much? Not a pytest test.

    python tests/benchmarks/transfer_study.py --samples 1000 --tier quick --write docs/transfer-study.md

Every network of the zoo as an INT8 engine (exact integers, so every CPU gives the same answers), attacked at 8/255: by replay of the sets
made on the PyTorch twin (S1), and by all that its claim rests on (S3 along its own graph, S4 on the engine itself, and the same S4 on the
twin). What each image came to is kept, a line of JSON for each network, in --rows: a network that has its line is not run again, so the
study can be made in pieces, and every figure of the page can be computed again from that file alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from machine import machine_line

from harness.answers import TWIN
from harness.audit.metrics import Right
from harness.audit.paired import Paired, pair
from harness.models.shipped import cards
from harness.records import RunRecord, Step
from harness.sources import deciding
from reports.run import Run

FLAVOUR, EPS, MARGIN = "ort-int8-precise", Fraction(8, 255), 0.02
NORMAL_95 = 1.96
ROWS = Path("docs/transfer-study.jsonl")
HEAD = """# Does transfer alone flatter an INT8 engine?

Written by `{command}` on {machine}. {done} of the zoo's {every} networks, tier `{tier}`, n = {n}, {eps}, engine `{flavour}`. What every
image came to is in [{rows_name}]({rows_name}), from which the same command makes this page again.

*Replay*: the sets made on the PyTorch twin by gradients, shown to the engine byte for byte. *Adaptive*: these, the same attacks along the
engine's own graph (S3), and attacks on the engine itself with the same attacks, starts and budgets on the twin (S4). Gap: the twin's
robust accuracy less the engine's, in points, with one-sided 95 % bounds (Tango). Flattered: by how much the gap grows when the engine is
attacked too; its bounds pair each image, and stand for each network alone: of twenty, one would lie beyond them by chance. A verdict of
UNTRUSTED says that a gate failed: its figures decide nothing.

{answer}

| network | verdict | twin | engine, replay | gap, replay | engine, adaptive | gap, adaptive | flattered by |
|---|---|--:|--:|--:|--:|--:|--:|
"""


@dataclass(frozen=True)
class Row:
    """What one network's run came to. The last four say of each image, in the run's order, whether the model has it right under every
    set of the source S1 (replay) or under every set that decides (adaptive): packed bits, most significant first, as hexadecimal digits.
    """

    network: str
    tier: str
    n: int
    verdict: str
    sound: bool
    images_sha256: str
    machine: str
    twin_replay: str
    engine_replay: str
    twin_adaptive: str
    engine_adaptive: str

    def right(self, bits: str) -> Right:
        """Bool (n,) of one of the four."""
        return np.unpackbits(np.frombuffer(bytes.fromhex(bits), dtype=np.uint8), count=self.n).astype(bool)

    @property
    def replay(self) -> Paired:
        """Twin against engine under replay."""
        return pair(self.right(self.twin_replay), self.right(self.engine_replay), MARGIN)

    @property
    def adaptive(self) -> Paired:
        """Twin against engine, each under all that decides."""
        return pair(self.right(self.twin_adaptive), self.right(self.engine_adaptive), MARGIN)

    @property
    def fell(self) -> tuple[Right, Right]:
        """The images that only the adaptive attacks took from the engine, and from the twin."""
        engine = self.right(self.engine_replay) & ~self.right(self.engine_adaptive)
        return engine, self.right(self.twin_replay) & ~self.right(self.twin_adaptive)

    @property
    def flattered(self) -> Paired:
        """How much the gap grows from replay to adaptive."""
        return pair(*self.fell, MARGIN)


def packed(right: Right) -> str:
    """The opposite of `Row.right`."""
    return np.packbits(right).tobytes().hex()


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


def row(name: str, folder: Path, record: RunRecord) -> Row:
    """The line of a finished run."""
    claim, matrix = record.claims[0], Run.open(folder).matrix
    every = deciding(matrix.columns, claim.engine, EPS)
    replay = [column for column in every if column.record.source == "S1"]
    bits = {
        f"{who}_{how}": packed(matrix.worst_case(model, columns))
        for who, model in (("twin", TWIN), ("engine", claim.engine))
        for how, columns in (("replay", replay), ("adaptive", every))
    }
    machine, _, _ = machine_line().partition("; load")  # nothing here is a time
    return Row(name, record.tier, claim.n, str(claim.verdict), claim.verdict.sound, record.data.sha256, machine, **bits)


def line(row: Row) -> str:
    """A line of the table."""
    replay, adaptive = row.replay, row.adaptive
    cells = (
        f"`{row.network}`",
        row.verdict,
        f"{100 * adaptive.twin.accuracy:.1f} %",
        f"{100 * replay.engine.accuracy:.1f} %",
        shown(replay),
        f"{100 * adaptive.engine.accuracy:.1f} %",
        shown(adaptive),
        shown(row.flattered),
    )
    return f"| {' | '.join(cells)} |\n"


def shown(one: Paired) -> str:
    """A difference of shares in points, with its bounds."""
    return f"{100 * one.gap:+.1f} [{100 * one.lower:+.1f}, {100 * one.upper:+.1f}]"


def answer(rows: list[Row]) -> Iterator[str]:
    """The finding in words, over the networks whose figures may be relied on."""
    if not rows:
        yield "No network with a verdict that may be relied on."
        return
    found = [one.flattered for one in rows]
    values = 100 * np.array([one.gap for one in found])
    beyond, other_way = sum(one.lower > 0 for one in found), sum(one.upper < 0 for one in found)
    yield f"Of {len(rows)} networks with a sound verdict, transfer alone flatters {beyond} beyond chance,"
    yield f"and makes {other_way} look worse than it is."
    yield f"The flattery is {np.median(values):.1f} points in the median, {values.min():.1f} to {values.max():.1f}."
    if len({(one.n, one.images_sha256) for one in rows}) == 1:
        mean, half = over_all(rows)
        yield f"Over all of them it is {mean:+.2f} points on the average, 95 % [{mean - half:+.2f}, {mean + half:+.2f}]:"
        yield "the interval is of other images for these same networks, which share their images (each image is one draw)."


def over_all(rows: list[Row]) -> tuple[float, float]:
    """Mean flattery of networks that share their images, in points, and the half of its 95 % interval (the image is the unit)."""
    each = 100 * np.mean([engine.astype(float) - twin.astype(float) for engine, twin in (one.fell for one in rows)], axis=0)
    return float(each.mean()), float(NORMAL_95 * each.std(ddof=1) / np.sqrt(len(each)))


def load(path: Path) -> dict[str, Row]:
    """The lines that are there, by network."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {one.network: one for one in (Row(**json.loads(text)) for text in lines)}


def save(rows: dict[str, Row], path: Path) -> None:
    """All lines, in the zoo's order."""
    ordered = sorted(rows.values(), key=lambda one: list(cards()).index(one.network))
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in ordered), encoding="utf-8")


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="*", default=list(cards()), help="these networks alone; none: only write the page")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--tier", default="quick")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer-study"), help="the folders of the runs")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rows = load(options.rows)
    for name in options.model:
        if name in rows and (rows[name].n, rows[name].tier) == (options.samples, options.tier):
            continue
        record = bench(name, options.out / name, options.samples, options.tier)
        if record is None or not record.claims or record.claims[0].engine_robust is None:
            print(f"{name}: no claim was judged", file=sys.stderr)
            continue
        rows[name] = row(name, options.out / name, record)
        save(rows, options.rows)
        print(line(rows[name]), end="", flush=True)
    of_these = [rows[name] for name in cards() if name in rows and (rows[name].n, rows[name].tier) == (options.samples, options.tier)]
    command = f"python tests/benchmarks/transfer_study.py --samples {options.samples} --tier {options.tier} --write docs/transfer-study.md"
    machines = sorted({one.machine for one in of_these})
    head = HEAD.format(
        command=command, machine=" and on ".join(machines), done=len(of_these), every=len(cards()), tier=options.tier, n=options.samples,
        eps=EPS, flavour=FLAVOUR, rows_name=options.rows.name, answer=" ".join(answer([one for one in of_these if one.sound])),
    )  # fmt: skip
    text = head + "".join(map(line, of_these))
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
