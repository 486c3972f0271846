"""Predicting an engine before its board is there: answers from a simulation, a floor from the profile, and the word at every figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commandline import harness
from untrained import make_untrained

from export.artefact import load_artefact
from export.simulate import simulated_logits
from harness.measurement.simulation import NOT_RUN
from harness.records import RunRecord, Verdict


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("simulated")
    words = [
        "bench", *make_untrained(place),
        "--device", "jetson-orin", "--emulate", "--flavour", "trt-int8", "--attack", "fgsm", "--samples", "4", "--out", str(place / "run"),
    ]  # fmt: skip
    assert harness(*words) in (0, 1, 3)
    return place / "run"


def test_the_answers_are_those_of_the_file_node_by_node(run: Path) -> None:
    """As `export.simulate` computes them here; no emulator is needed for that."""
    (manifest,) = (run / "artefacts").glob("trt-int8-*.json")
    clean = np.load(run / "adversarial/clean.npz")
    samples = pd.read_parquet(run / "samples.parquet")
    given = samples[samples["attack"] == "clean"].set_index("index")["engine_prediction"].loc[clean["index"]]
    assert given.tolist() == simulated_logits(load_artefact(manifest), clean["images"]).argmax(1).tolist()


def test_the_record_says_that_nothing_ran(run: Path) -> None:
    (engine,) = RunRecord.load(run).engines
    assert engine.status == "ok"
    assert engine.simulated is not None and "onnxruntime" in engine.simulated
    assert engine.runtime == "tensorrt"
    assert engine.runtime_version is None
    assert (engine.latency, engine.load_ms, engine.memory.peak_bytes, engine.memory.device_bytes) == ({}, None, None, None)
    assert engine.precision_evidence is not None
    assert engine.precision_evidence.label == "int8, simulated"
    gates = {gate.name: gate for gate in RunRecord.load(run).gates if gate.engine == "trt-int8"}
    for name in ("precision evidence", "determinism"):
        assert gates[name].passed is None
        assert NOT_RUN in gates[name].observed


def test_the_floor_is_orins_and_an_estimate(run: Path) -> None:
    record = RunRecord.load(run)
    (engine,) = record.engines
    assert engine.roofline is not None
    assert engine.roofline.arithmetic == "int8"
    assert "MAXN" in engine.roofline.source
    assert engine.roofline.floors["8"].ms == pytest.approx(2 * 8 * record.model.macs / 85.5e12 * 1e3)
    assert "Floor under the latency (estimate)" in (run / "report.md").read_text()


def test_every_claim_says_so_and_none_holds(run: Path) -> None:
    for claim in RunRecord.load(run).claims:
        assert "(simulated)" in claim.statement
        assert claim.reason.startswith("Simulated, not run") or claim.verdict is Verdict.UNTRUSTED
        assert claim.verdict is not Verdict.HOLDS


def test_the_report_names_the_engine_with_the_word_everywhere(run: Path) -> None:
    text = (run / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| trt-int8")]
    assert len(rows) > 5
    assert all(row.startswith("| trt-int8 (simulated, not run)") for row in rows)
    assert "NOT RUN: the answers of trt-int8" in text
