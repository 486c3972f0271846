"""Every planted fault is caught by what its file names, every sound deployment passes, and a gate that is switched off is missed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from commandline import harness

from harness.audit import gates
from harness.records import Verdict
from harness.selftest.deployment import HOLDS, REFUSED, Deployment, deployments, read
from harness.selftest.run import alone, outcome, run
from harness.selftest.table import line
from harness.stages.export import FLOAT

pytestmark = pytest.mark.slow(420)

ALL = {one.name: one for one in deployments()}
PAGE = Path(__file__).parents[2] / "docs/selftest.md"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the sound deployment, whose sets the others take where they would be the same."""
    folder = tmp_path_factory.mktemp("selftest") / "sound"
    with alone():
        run(Deployment("sound", "as it is", False, "", flavours=(FLOAT, "ort-int8")), folder, quick=True)
    return folder


@pytest.mark.parametrize("name", ALL)
def test_what_the_file_names_is_what_is_seen(name: str, store: Path, tmp_path: Path) -> None:
    with alone():
        row = outcome(ALL[name], tmp_path / "run", quick=True, store=store)
    assert row.ok, line(row)


def test_two_builds_of_a_sound_engine_each_earn_holds(store: Path, tmp_path: Path) -> None:
    """The flavour's graph is attacked once (S3) and counts for both; the second has other threads, and is attacked itself."""
    with alone():
        two = Deployment("two builds", "as it is", False, HOLDS, flavours=("ort-int8",), settings={"builds": 2})
        record = run(two, tmp_path / "run", quick=True, store=store)
    assert [(claim.engine, claim.verdict, claim.sources) for claim in record.claims] == [
        (name, Verdict.HOLDS, ["S1", "S3", "S4"]) for name in ("ort-int8", "ort-int8#2")
    ]
    first, second = record.engines
    assert first.varied is None and second.varied is not None
    assert (first.options["intra_op_num_threads"], second.options["intra_op_num_threads"]) == (1, 2)
    assert {a.target for a in record.attacks if a.source == "S3"} == {"ort-int8"}
    assert {a.target for a in record.attacks if a.source == "S4"} == {"twin", "ort-int8", "ort-int8#2"}


@pytest.mark.parametrize("gate", ["clean_parity", "engine_parity"])
def test_a_fault_whose_gate_is_switched_off_is_missed(gate: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = ALL["bgr" if gate == "clean_parity" else "another_model"]
    name = fault.expected
    monkeypatch.setattr(gates, gate, lambda engine, *_: gates.not_tested(name, "switched off", engine))
    with alone():
        row = outcome(fault, tmp_path / "run", quick=True, store=store)
    assert not row.ok and name not in row.observed
    assert line(row).startswith("MISSED")


def test_another_network_that_is_right_on_as_many_clean_images_is_not_trusted(store: Path, tmp_path: Path) -> None:
    """Attacked itself too, along the twin's gradients and by queries: neither finds that its own gradients fool it on every image."""
    fault = replace(ALL["trained_without_adversary"], expected="UNTRUSTED")  # so that nothing of the run is left out
    with alone():
        record = run(fault, tmp_path / "run", quick=True, store=store)
    failed = {gate.name: gate.observed for gate in record.gates if gate.passed is False}
    assert list(failed) == ["engine parity"] and "of 400 clean and" in failed["engine parity"]
    (claim,) = record.claims
    assert (claim.verdict, claim.sources) == (Verdict.UNTRUSTED, ["S1", "S4"])
    assert claim.twin_robust is not None and claim.engine_robust is not None
    assert claim.twin_robust.accuracy < claim.engine_robust.accuracy


def test_a_gate_that_fails_everything_fails_the_sound_deployments(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = gates.determinism
    monkeypatch.setattr(gates, "determinism", lambda engine, repeats, _: honest(engine, repeats, False))
    with alone():
        row = outcome(ALL["own_engine"], tmp_path / "run", quick=True, store=store)
    assert not row.ok and "determinism" in row.observed
    assert line(row).startswith("FAILED")


def test_there_are_enough_of_both_and_each_expects_what_there_is() -> None:
    faults = [one for one in ALL.values() if one.faulty]
    assert len(faults) >= 40 and len(ALL) - len(faults) >= 20
    for one in ALL.values():
        known = one.expected in {*gates.GATES, *(verdict.value for verdict in Verdict)}
        assert known or (one.faulty and one.expected.startswith(REFUSED)), one


@pytest.mark.parametrize(
    ("folder", "contents"),
    [
        ("faults", {"__doc__": "A fault that does not say what must catch it."}),
        ("faults", {"CAUGHT_BY": "clean parity"}),
        ("sound", {"__doc__": "Sound.", "CAUGHT_BY": "clean parity"}),
    ],
)
def test_a_file_must_say_what_it_is(folder: str, contents: dict[str, Any]) -> None:
    module = ModuleType(f"harness.selftest.{folder}.one")
    vars(module).update(contents)
    with pytest.raises(ValueError, match="must have a docstring"):
        read(module)


def test_the_command_says_what_it_saw_and_ends_with_its_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table.md"
    assert harness("selftest", "--quick", "--only", "own_engine", "--only", "eps_in_bytes", "--json", "--write", str(table)) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["ok"]) for row in rows] == [("eps_in_bytes", True), ("own_engine", True)]
    assert "1 of 1 faults caught by what their files name, 1 of 1 sound deployments passed." in table.read_text()
    monkeypatch.setitem(vars(ALL["eps_in_bytes"]), "expected", "determinism")
    monkeypatch.setattr("harness.selftest.deployment.deployments", lambda: iter([ALL["eps_in_bytes"]]))
    assert harness("selftest") == 1
    assert capsys.readouterr().out.startswith("MISSED  eps_in_bytes")


def test_a_name_that_no_deployment_has_is_a_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("selftest", "--only", "brg") == 2
    assert "bgr" in capsys.readouterr().err


def test_the_page_has_every_deployment_and_no_miss() -> None:
    rows = [row for row in PAGE.read_text().splitlines() if row.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(ALL), "write it anew: harness selftest --quick --write docs/selftest.md"
    assert all(row.endswith("| ok |") for row in rows)
