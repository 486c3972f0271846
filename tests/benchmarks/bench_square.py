"""Square on an engine: this harness against a plain loop over AutoAttack's own class, on one open session. Not a pytest test.

    python tests/benchmarks/bench_square.py [--model resnet18x16-at] [--samples 256] [--queries 1000] [--rounds 1]

The images are those that `ort-int8` has right after PGD on the twin. The two take turns, so that both see the same machine. Ours is
`make_set`, everything included (bytes tested again, the file). Limits: at most 0.7 of the plain loop's time, success within 2 points. The
engine's own share is what the session took to answer, which no attack of as many queries can do without.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import machine_line
from numpy.typing import NDArray
from pyautoattack.square import SquareAttack

from harness.answers import Images, Logits
from harness.attacks.sets import make_set
from harness.attacks.table import resolve
from harness.attacks.target import EngineTarget
from harness.data.dataset import Dataset, to_bytes, to_tensor
from harness.settings import Settings
from harness.stages.engines import open_engines, plan_engines
from harness.stages.export import export_and_check
from harness.stages.subject import Subject, load_subject

BATCH, RATIO, POINTS = 128, 0.7, 2.0


class Timed(EngineTarget):
    """The engine; `seconds` is what it took to answer."""

    seconds = 0.0

    def logits(self, images: Images) -> Logits:
        """The engine's."""
        started = time.perf_counter()
        answers = super().logits(images)
        Timed.seconds += time.perf_counter() - started
        return answers


def survivors(subject: Subject, engine: EngineTarget, folder: Path) -> NDArray[np.int64]:
    """Positions in the test set of images that the engine has right after PGD on the twin."""
    _, adversarial = make_set(
        subject.twin.module, subject.test, subject.index, resolve("pgd"), subject.eps, 0, source="S1", folder=folder / "pgd"
    )
    named = engine.logits(np.asarray(adversarial[:])).argmax(1)
    return subject.index[named == subject.test.labels[subject.index]]


def ours(subject: Subject, engine: EngineTarget, index: NDArray[np.int64], queries: int, folder: Path) -> float:
    """The share that is still right."""
    attack = resolve("square").with_steps(queries)
    record, _ = make_set(
        engine.module, subject.test, index, attack, subject.eps, 0, source="S4", target=engine.id, made_on=engine.id, folder=folder
    )
    return float(record.target_accuracy)


def plain(test: Dataset, engine: EngineTarget, index: NDArray[np.int64], queries: int, eps: float) -> float:
    """The share that is still right."""
    right = 0
    for start in range(0, len(index), BATCH):
        rows = index[start : start + BATCH]
        x, y = to_tensor(test.images[rows]), torch.from_numpy(test.labels[rows])
        attack = SquareAttack(engine.module, norm="Linf", n_queries=queries, eps=eps, seed=0, device="cpu")
        found = attack.perturb(x, y)
        found = found[1] if isinstance(found, tuple) else found
        right += int((engine.logits(to_bytes(found)).argmax(1) == test.labels[rows]).sum())
    return right / len(index)


def timed(work: Callable[[], float]) -> tuple[float, float, float]:
    """(share still right, seconds, of these the engine's)."""
    Timed.seconds, started = 0.0, time.perf_counter()
    robust = work()
    return robust, time.perf_counter() - started, Timed.seconds


def main() -> None:
    """Print both, and their ratio; exit code 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18x16-at")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    settings = Settings(model=options.model, flavours=("ort-int8",), samples=options.samples, batches=())
    subject = load_subject(settings)
    print(machine_line(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exported = export_and_check(subject, settings, folder / "artefacts", lambda line: None)
        engines = [engine for engine in plan_engines(subject, settings, exported) if engine.flavour == "ort-int8"]
        with open_engines(engines, subject, settings, folder, print) as opened:
            engine = Timed(opened.sessions["ort-int8"])
            index = survivors(subject, engine, folder)
            results: dict[str, list[tuple[float, float, float]]] = {"harness": [], "plain loop": []}
            for number in range(options.rounds):
                place = folder / str(number)
                results["plain loop"].append(timed(lambda: plain(subject.test, engine, index, options.queries, float(subject.eps))))
                results["harness"].append(timed(lambda place=place: ours(subject, engine, index, options.queries, place)))  # type: ignore[misc]
    for who, rounds in results.items():
        robust, seconds, asked = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"{who}: {robust:.1%} of {len(index)} still right, {seconds:.1f} s, {asked / seconds:.0%} of it the engine's")
    (mine, my_s, _), (other, other_s, _) = (
        tuple(statistics.median(values) for values in zip(*results[who], strict=True)) for who in ("harness", "plain loop")
    )
    good = my_s / other_s <= RATIO and abs(100 * (mine - other)) <= POINTS
    print(
        f"harness / plain loop: {my_s / other_s:.2f} (limit {RATIO:g}), {100 * (mine - other):+.1f} points (limit {POINTS:g})   "
        f"{'ok' if good else 'MISSED'}"
    )
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
