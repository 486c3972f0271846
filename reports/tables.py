"""A finished run as tidy data frames: one row per thing that was measured, documented columns, everything in one unit.

Figures that a report withholds (of a measurement that is INVALID, of an emulated device) are here as the record has them, beside the
column that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records import EngineRecord, Latency, Part, RunRecord
from reports.run import Run

if TYPE_CHECKING:
    import pandas as pd

# Table -> column -> what it holds. Shares are of 1; None where a figure is not known.
COLUMNS: dict[str, dict[str, str]] = {
    "engines": {
        "engine": "name: flavour and build",
        "flavour": "deployable form",
        "build": "which of its builds, from 0",
        "runtime": "what ran it",
        "runtime_version": "of the runtime",
        "status": "ok, or what became of it",
        "simulated": "its answers were foretold, it did not run",
        "precision": "that the runtime's own evidence supports",
        "integer_mac_share": "of convolutions and linear layers, in integer kernels",
        "clean_correct": "clean images it has right",
        "clean_n": "clean images",
        "clean_accuracy": "share",
        "clean_low": "lower end of its 95 % Wilson interval",
        "clean_high": "upper end",
        "load_ms": "loading, milliseconds",
        "first_ms": "the first call after loading, milliseconds",
        "artefact_bytes": "its file",
        "peak_bytes": "peak resident set above the baseline",
        "device_bytes": "of the accelerator's own memory",
        "artefact_sha256": "of its file",
    },
    "latency": {
        "engine": "name",
        "batch": "images per call",
        "n": "timed calls",
        "mean_ms": "milliseconds, as all that follow",
        "minimum_ms": "fastest call",
        "p50_ms": "median",
        "p90_ms": "None below its least number of calls, as the next three",
        "p95_ms": "",
        "p99_ms": "",
        "p999_ms": "99.9 %",
        "maximum_ms": "slowest call",
        "throughput_per_s": "images per second",
        "valid": "the measurement counts",
        "energy_mj": "of one image, as drawn, millijoules",
        "temperature_rise_c": "of the sensor that rose most",
    },
    "calls": {
        "engine": "name",
        "batch": "images per call",
        "call": "number of the timed call, from 0",
        "round": "of the engines in turns; None where it was not kept",
        "latency_ms": "wall time",
    },
    "attacks": {
        "source": "why the set was made",
        "target": "what it is aimed at",
        "attack": "name",
        "norm": "Linf or L2",
        "eps": "radius as a fraction; 0 of a minimum-norm attack",
        "steps": "iterations or queries",
        "seed": "of random starts",
        "n": "images in the set; 0: none was left that it could change, and no accuracy is known",
        "n_attacked": "of them attacked",
        "target_accuracy": "of the model that was attacked (of S3, S5, S7 one that stands in for the target), on the set",
        "set_sha256": "of the images",
        "file": "in the run folder",
    },
    "transfer": {
        "engine": "name",
        "source": "of the set",
        "target": "of the set",
        "attack": "of the set",
        "eps": "of the set",
        "n": "images; 0: none was left, and no accuracy is known",
        "twin_accuracy": "right on the image and on its adversarial version",
        "engine_accuracy": "the same of the engine",
        "engine_low": "lower end of its 95 % Wilson interval",
        "engine_high": "upper end",
        "both_right": "images",
        "twin_only": "images that the twin has right and the engine wrong",
        "engine_only": "the reverse",
        "both_wrong": "images",
        "transfer_rate": "of the images that fool the model the set was made on, how many fool the engine",
    },
    "claims": {
        "engine": "name",
        "eps": "radius",
        "verdict": "the answer",
        "control": "the float engine beside quantized ones",
        "twin_robust": "worst case of the twin, share",
        "engine_robust": "worst case of the engine, share",
        "gap": "twin less engine",
        "lower": "one-sided 95 % bound of the gap (Tango)",
        "upper": "the other",
        "margin": "that is allowed",
        "n": "images",
        "n_required": "images that would decide",
        "p_value": "of a gap at least as large as the margin, Holm-adjusted",
        "sources": "of the sets, joined by commas",
        "reason": "why this verdict",
    },
    "gates": {
        "gate": "name",
        "engine": "None: of the whole run",
        "passed": "None: not tested, or left open",
        "observed": "in words",
        "limit": "in words",
        "remedy": "what helps where it fails",
    },
    "requirements": {
        "requirement": "what is required",
        "kind": "its key in the file",
        "engine": "None: of the whole run",
        "line": "of the file",
        "side": "how the figure must stand to the limit",
        "unit": "of the three that follow",
        "limit": "a number, a truth, or a list of names",
        "observed": "the same",
        "low": "lower bound",
        "high": "upper bound",
        "outcome": "PASS, FAIL, INCONCLUSIVE or NOT MEASURED",
        "reason": "what would decide it",
    },
    "samples": {
        "index": "of the image, among all clean ones",
        "label": "the right class",
        "source": "of the set; clean: the clean images, as the next two",
        "target": "of the set",
        "attack": "of the set",
        "eps": "of the set",
        "engine": "name",
        "twin_prediction": "class",
        "engine_prediction": "class",
        "twin_margin": "logit of the label less the largest other",
        "engine_margin": "the same of the engine",
        "linf": "distance from the clean image, of 1",
        "l2": "Euclidean distance",
    },
}


@dataclass(frozen=True)
class Tables:
    """A run: its record, and a frame for each table of `COLUMNS`, with its columns in that order."""

    record: RunRecord
    engines: pd.DataFrame
    latency: pd.DataFrame
    calls: pd.DataFrame
    attacks: pd.DataFrame
    transfer: pd.DataFrame
    claims: pd.DataFrame
    gates: pd.DataFrame
    requirements: pd.DataFrame
    samples: pd.DataFrame


def load_run(folder: str | Path) -> Tables:
    """Read a run folder, finished or not. A raw file that is missing leaves its rows out.

    Raises:
        UsageError: not a run folder.
        UntrustedError: the record or a raw file is damaged, or of another version.
    """
    run = Run.open(Path(folder))
    return Tables(record=run.raw, **{name: frame(run, name) for name in COLUMNS})


def frame(run: Run, table: str) -> pd.DataFrame:
    """One table of `COLUMNS`. Raises UntrustedError: the raw file that it rests on is damaged."""
    bare = Run(run.folder, run.raw)
    record = bare.record
    timed = [(engine, batch, latency) for engine in record.engines for batch, latency in engine.latency.items()]
    if table == "calls":
        return _calls(bare, timed)
    if table == "samples":
        return bare.samples[list(COLUMNS["samples"])]
    rows: dict[str, Iterable[Mapping[str, Any]]] = {
        "engines": map(_engine, record.engines),
        "latency": (_latency(*one) for one in timed),
        "attacks": map(_attack, record.attacks),
        "transfer": map(_transfer, record.transfer),
        "claims": map(_claim, record.claims),
        "gates": (_renamed(gate, {"name": "gate"}) for gate in record.gates),
        "requirements": map(_requirement, record.requirements),
    }
    return _frame(table, rows[table])


def _frame(table: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([{name: row.get(name) for name in COLUMNS[table]} for row in rows], columns=list(COLUMNS[table]))


def _renamed(part: Part, names: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a part of the record, some under another name."""
    fields = part.model_dump()
    return {**{key: value for key, value in fields.items() if key not in names}, **{new: fields[old] for old, new in names.items()}}


def _engine(engine: EngineRecord) -> dict[str, Any]:
    clean, evidence = engine.clean, engine.precision_evidence
    shares = {} if clean is None else {"correct": clean.correct, "n": clean.n, "accuracy": clean.accuracy}
    ends = {} if clean is None else dict(zip(("low", "high"), clean.ci95, strict=True))
    return {
        **engine.model_dump(include=set(COLUMNS["engines"])),
        "engine": engine.name,
        "simulated": engine.simulated is not None,
        "precision": evidence.label if evidence else None,
        "integer_mac_share": evidence.integer_mac_share if evidence else None,
        **{f"clean_{name}": value for name, value in {**shares, **ends}.items()},
        **engine.memory.model_dump(include=set(COLUMNS["engines"])),
    }


def _latency(engine: EngineRecord, batch: str, latency: Latency) -> dict[str, Any]:
    figures = ("mean", "minimum", "p50", "p90", "p95", "p99", "p999", "maximum")
    return {
        "engine": engine.name,
        "batch": int(batch),
        "n": latency.n,
        **{f"{name}_ms": getattr(latency, name) for name in figures},
        "throughput_per_s": latency.throughput_per_s,
        "valid": not latency.invalid,
        "energy_mj": latency.energy.gross_mj if latency.energy else None,
        "temperature_rise_c": latency.conditions.temperature_rise_c if latency.conditions else None,
    }


def _calls(run: Run, timed: Iterable[tuple[EngineRecord, str, Latency]]) -> pd.DataFrame:
    import pandas as pd

    frames = []
    for engine, batch, latency in timed:
        if (values := run.latency_ms(latency)) is not None:
            columns = {"engine": engine.name, "batch": int(batch), "call": range(len(values)), "round": run.rounds(latency)}
            frames.append(pd.DataFrame({**columns, "latency_ms": values}))
    return pd.concat(frames, ignore_index=True) if frames else _frame("calls", [])


def _attack(attack: Any) -> dict[str, Any]:
    fields = _renamed(attack, {"name": "attack", "eps_exact": "eps"})
    return fields if attack.n else {**fields, "target_accuracy": None}


def _transfer(transfer: Any) -> dict[str, Any]:
    fields = _renamed(transfer, {"eps_exact": "eps"})
    fields |= {**fields["flips"], "engine_low": transfer.ci95[0], "engine_high": transfer.ci95[1]}
    return fields if transfer.n else {**fields, **dict.fromkeys(("twin_accuracy", "engine_accuracy", "engine_low", "engine_high"))}


def _claim(claim: Any) -> dict[str, Any]:
    return {
        **_renamed(claim, {"eps_exact": "eps"}),
        "verdict": str(claim.verdict),
        "sources": ", ".join(claim.sources),
        "twin_robust": claim.twin_robust.accuracy if claim.twin_robust else None,
        "engine_robust": claim.engine_robust.accuracy if claim.engine_robust else None,
    }


def _requirement(row: Any) -> dict[str, Any]:
    low, high = row.interval or (None, None)
    return {**_renamed(row, {"name": "requirement"}), "low": low, "high": high, "outcome": str(row.outcome)}
