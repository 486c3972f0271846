"""The largest run that is usual: six engines, more requirements and failed gates than a page holds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from synthetic import make_run

from harness.answers import ANSWERS
from harness.records import Gate, Outcome, Qualification, Ratio, Requirement, RunRecord, Verdict

COPIES = ("ort-int8-rr", "openvino-int8", "executorch-int8", "trt-int8-sparse#2")


def make_crowded(folder: Path, **options: Any) -> RunRecord:
    """A run of `make_run`, its INT8 engine four times more."""
    record = make_run(folder, **options)
    fp32, int8 = record.engines
    for name in COPIES:
        shutil.copytree(folder / ANSWERS / int8.name, folder / ANSWERS / name)
    samples = pd.read_parquet(folder / "samples.parquet")
    more = [samples[samples["engine"] == int8.name].assign(engine=name) for name in COPIES]
    pd.concat([samples, *more], ignore_index=True).to_parquet(folder / "samples.parquet")
    engines = [fp32, int8, *(int8.model_copy(update={"name": name, "flavour": name.partition("#")[0]}) for name in COPIES)]
    claims = [claim.model_copy(update={"engine": engine.name}) for engine in engines for claim in record.claims[-1:]]
    claims = [claim.model_copy(update={"verdict": list(Verdict)[i], "reason": f"Reason {i}. " * 12}) for i, claim in enumerate(claims)]
    transfer = [t.model_copy(update={"engine": name}) for name in COPIES for t in record.transfer if t.engine == int8.name]
    found = record.model_copy(
        update={
            "engines": engines,
            "claims": claims,
            "verdict": Verdict.ENGINE_FAILED,
            "transfer": [*record.transfer, *transfer],
            "ratios": list(_ratios([engine.name for engine in engines])),
            "gates": [_gate(f"gate of the kind {i}", engine.name) for i in range(9) for engine in engines],
            "qualification": Qualification(name="a board", sha256="9f" * 32, confidence=0.95, sampled=20, level=0.9975),
            "requirements": [_requirement(i, engines[i % 6].name) for i in range(25)],
        }
    )
    found.save(folder)
    return found


def _ratios(names: list[str]):
    for i, above in enumerate(names):
        for below in names[i + 1 :]:
            spread = {f"{kind}{end}": 1.3 for kind in ("low", "median") for end in ("", "_smallest", "_largest")}
            yield Ratio(above=above, below=below, batch=1, rounds=5, decided=i % 2 == 0, **spread)


def _gate(name: str, engine: str) -> Gate:
    return Gate(name=name, engine=engine, passed=False, observed="what was seen of it " * 20, limit="a limit", remedy="Do this. " * 8)


def _requirement(i: int, engine: str) -> Requirement:
    return Requirement(
        name=f"latency p99, batch {i}",
        kind="latency",
        engine=engine,
        line=i,
        side="at_most",
        unit="ms",
        limit=20.0,
        observed=19.0 + i,
        interval=(16.5 + i, 24.4 + i),
        outcome=list(Outcome)[i % 4],
        reason="about 310 images would decide it, at the spread that was seen",
    )
