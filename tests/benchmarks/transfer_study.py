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
from once_more import once_more

from harness.answers import TWIN
from harness.audit.metrics import Right
from harness.audit.paired import Paired, pair
from harness.models.shipped import cards
from harness.records import RunRecord, Step
from harness.sources import deciding
from reports.format import points
from reports.run import Run

FLAVOUR, EPS, MARGIN = "ort-int8-precise", Fraction(8, 255), 0.02
NORMAL_95 = 1.96
ROWS = Path("docs/transfer-study.jsonl")
HEAD = """# Does transfer alone flatter an INT8 engine?

Written by `{command}` on {machine}. {done} of the zoo's {every} networks, tier `{tier}`, n = {n}, {eps}, engine `{flavour}`. What every
image came to is in [{rows_name}]({rows_name}), from which the same command makes this page again.

*Replay*: the sets made on the PyTorch twin by gradients, shown to the engine byte for byte. *Adaptive*: these, the same attacks along the
engine's own graph (S3), and attacks on the engine itself with the same attacks, starts and budgets on the twin (S4). Gap: the twin's
robust accuracy less the engine's, in points, with one-sided 95 % bounds (Tango). *Flattered by*: how much the gap grows when the engine is
attacked too.

Part of that is effort: S3 goes on from where the attacks on the twin ended, and begins anew from other random starts. *Once more*: what the
twin loses to just that, the same attacks made on it again. *Beyond effort*: what is left of the flattery when the twin has lost these
images too. Bounds pair each image, and stand for each network alone: of twenty, one would lie beyond them by chance. A verdict of UNTRUSTED
says that a gate failed: its figures decide nothing.

{answer}

| network | verdict | replay: twin | engine | gap | adaptive: twin | engine | gap | flattered by | once more | beyond effort |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""


@dataclass(frozen=True)
class Row:
    """What one network's run came to. The last five say of each image, in the run's order, whether the model has it right under every
    set of the source S1 (replay), under every set that decides (adaptive), and, the twin, under the attacks of S1 made once more too:
    packed bits, most significant first, as hexadecimal digits.
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
    twin_again: str

    @property
    def kind(self) -> tuple[int, str]:
        """What makes rows of one table: images and tier."""
        return self.n, self.tier

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
    def fell(self) -> tuple[Right, Right, Right]:
        """The images that the adaptive attacks took: from the engine; from the twin; from the twin when it was attacked once more too."""
        twin = self.right(self.twin_replay)
        engine = self.right(self.engine_replay) & ~self.right(self.engine_adaptive)
        return engine, twin & ~self.right(self.twin_adaptive), twin & ~self.right(self.twin_again)

    @property
    def flattered(self) -> Paired:
        """How much the gap grows from replay to adaptive."""
        engine, twin, _ = self.fell
        return pair(engine, twin, MARGIN)

    @property
    def beyond_effort(self) -> Paired:
        """The same, where the twin was attacked once more too."""
        engine, _, again = self.fell
        return pair(engine, again, MARGIN)


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
    bits["twin_again"] = packed(once_more(folder, record, replay, matrix.worst_case(TWIN, every), EPS))
    machine, _, _ = machine_line().partition("; load")  # nothing here is a time
    return Row(name, record.tier, claim.n, str(claim.verdict), claim.verdict.sound, record.data.sha256, machine, **bits)


def line(row: Row) -> str:
    """A line of the table."""
    _, twin, again = row.fell
    cells = (
        f"`{row.network}`",
        row.verdict,
        *(cell for one in (row.replay, row.adaptive) for cell in beside(one)),
        shown(row.flattered),
        f"{100 * (again.mean() - twin.mean()):.1f}",
        shown(row.beyond_effort),
    )
    return f"| {' | '.join(cells)} |\n"


def beside(one: Paired) -> tuple[str, str, str]:
    """The shares of twin and engine that are right, and their difference."""
    return f"{100 * one.twin.accuracy:.1f} %", f"{100 * one.engine.accuracy:.1f} %", shown(one)


def shown(one: Paired) -> str:
    """A difference of shares in points, with its bounds."""
    return f"{points(one.gap, 0.0)} [{points(one.lower, 0.0)}, {points(one.upper, 0.0)}]"


def answer(rows: list[Row]) -> Iterator[str]:
    """The finding in words, over the networks whose figures may be relied on, and of which something was left to take."""
    rows = [one for one in rows if one.sound and one.right(one.engine_replay).any()]
    if not rows:
        yield "No network with a verdict that may be relied on."
        return
    yield f"Of {len(rows)} networks with a sound verdict and images that are right under replay,"
    fell = [one.fell for one in rows]
    for what, falls in (
        ("transfer alone flatters", [(engine, twin) for engine, twin, _ in fell]),
        ("Beyond what as much effort takes from the twin, it flatters", [(engine, again) for engine, _, again in fell]),
    ):
        found = [pair(*both, MARGIN) for both in falls]
        values = 100 * np.array([one.gap for one in found])
        beyond, other_way = sum(one.lower > 0 for one in found), sum(one.upper < 0 for one in found)
        yield f"{what} {beyond} of them beyond chance and slights {other_way}; by {np.median(values):.1f} points in the median"
        alike = len({(one.n, one.images_sha256) for one in rows}) == 1
        yield f"({values.min():.1f} to {values.max():.1f}){over_all(falls) if alike else ''}."


def over_all(falls: list[tuple[Right, Right]]) -> str:
    """The mean difference over networks that share their images, with its 95 % interval: each image is one draw."""
    each = 100 * np.mean([engine.astype(float) - twin for engine, twin in falls], axis=0)
    half = NORMAL_95 * each.std(ddof=1) / np.sqrt(len(each))
    return f", {each.mean():.2f} [{each.mean() - half:.2f}, {each.mean() + half:.2f}] on the average"


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
    rows, kind = load(options.rows), (options.samples, options.tier)
    for name in options.model:
        if name in rows and rows[name].kind == kind:
            continue
        record = bench(name, options.out / name, options.samples, options.tier)
        if record is None or not record.claims or record.claims[0].engine_robust is None:
            print(f"{name}: no claim was judged", file=sys.stderr)
            continue
        rows[name] = row(name, options.out / name, record)
        save(rows, options.rows)
        print(line(rows[name]), end="", flush=True)
    of_these = [rows[name] for name in cards() if name in rows and rows[name].kind == kind]
    command = f"python tests/benchmarks/transfer_study.py --samples {options.samples} --tier {options.tier} --write docs/transfer-study.md"
    machines = sorted({one.machine for one in of_these})
    head = HEAD.format(
        command=command, machine=" and on ".join(machines), done=len(of_these), every=len(cards()), tier=options.tier, n=options.samples,
        eps=EPS, flavour=FLAVOUR, rows_name=options.rows.name, answer=" ".join(answer(of_these)),
    )  # fmt: skip
    text = head + "".join(map(line, of_these))
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
