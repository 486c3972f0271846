"""A whole run on an emulated CPU: judged as anywhere, and silent about time and memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commandline import harness
from untrained import make_untrained

from devices.host.station import EMULATED_LIMITS
from devices.host.transports.emulated import INSTALL_QEMU
from harness.records import RunRecord, Step, Verdict

pytestmark = [
    pytest.mark.slow(30),
    pytest.mark.skipif(
        not any(map(shutil.which, ("qemu-x86_64-static", "qemu-x86_64"))), reason=f"qemu-x86_64-static is not installed: {INSTALL_QEMU}"
    ),
]

FLAVOURS = ("ort-int8-precise", "ort-int8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("emulated")
    flavours = (word for flavour in FLAVOURS for word in ("--flavour", flavour))
    what = (*flavours, "--attack", "fgsm", "--source", "S1", "--samples", "4", "--device", "x86-avx2")
    assert harness("bench", *make_untrained(folder), *what, "--out", str(folder / "run")) in (0, 1, 3)
    return folder / "run"


def test_the_record_has_logits_and_a_verdict_but_no_time_and_no_memory(run: Path) -> None:
    record = RunRecord.load(run)
    assert (record.status, record.device.emulated, record.device.synthetic) == (Step.FINISHED, True, False)
    assert record.device.observed["isa_flags"] == ["sse4_1", "avx", "avx2", "fma", "f16c"]
    assert record.device.observed["threads"] == 1
    engine = record.engines[0]
    assert engine.status == "ok"
    assert engine.clean is not None
    assert engine.precision_evidence is not None
    assert engine.options["session_config"] == {"session.x64quantprecision": "1"}
    assert (engine.latency, engine.load_ms, engine.memory.baseline_bytes, engine.memory.peak_bytes) == ({}, None, None, None)
    assert engine.warnings == []
    assert record.claims
    assert record.verdict not in (None, Verdict.ENGINE_FAILED)
    observed = {gate.name: gate.observed for gate in record.gates if gate.engine and gate.passed is None}
    assert observed["timed outputs"] == observed["repeated inputs"] == "not tested: nothing was timed"


def test_saturation_on_the_measured_cpu_is_a_finding_and_no_fault_of_the_artefact(run: Path) -> None:
    """The file is proved by exact integers; what the kernels of AVX2 make of it is told apart, and `ort-int8-precise` is accepted."""
    record = RunRecord.load(run)
    passed = {(gate.name, gate.engine): gate.passed for gate in record.gates}
    assert {engine.flavour: passed["artefact parity", engine.flavour] for engine in record.engines} == dict.fromkeys(FLAVOURS, True)
    assert {flavour: passed["saturation", flavour] for flavour in FLAVOURS} == {"ort-int8-precise": True, "ort-int8": False}
    assert [engine.flavour for engine in record.engines if any(finding.rule == "ORT020" for finding in engine.parity.lint)] == ["ort-int8"]
    for report in ("report.html", "report.md"):
        assert "--flavour ort-int8-precise (the same file, exact kernels) or ort-int8-rr" in " ".join((run / report).read_text().split())


def test_the_report_says_so(run: Path) -> None:
    for report in ("report.html", "report.md"):
        assert "EMULATED: numerics only" in (run / report).read_text()


def test_the_limit_on_silence_is_generous() -> None:
    assert EMULATED_LIMITS.answer_s >= 600


def test_what_is_missing_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("harness.stages.subject.load_twin", lambda *_, **__: pytest.fail("the model was read before"))
    assert harness("bench", "--device", "x86-avx2", "--out", str(tmp_path / "run")) == 4
    assert f"harness: qemu-x86_64-static is not installed on this machine. Install it: {INSTALL_QEMU}\n" == capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_probe_and_prepare(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("devices", "probe", "x86-avx2", "--json") == 0
    assert "avx2" in json.loads(capsys.readouterr().out)["found"]["isa_flags"]
    assert harness("devices", "prepare", "x86-sse4") == 0
    out, err = capsys.readouterr()
    assert out.startswith("x86-sse4 is ready: python 3.")
    assert "needs no preparation" in err
    assert harness("bench", "--device", "host", "--emulate") == 2
    assert "host cannot be emulated" in capsys.readouterr().err
