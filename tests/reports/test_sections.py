"""What single chapters say of runs that differ in one thing."""

from __future__ import annotations

import shlex

import pytest
from synthetic import make_run

from harness.audit.statistics import mcnemar_p
from reports.run import Run
from reports.sections import provenance, scope, verdict


@pytest.mark.parametrize("tier", ["quick", "bench", "qualify"])
def test_what_no_tier_runs_is_listed_in_every_tier(tmp_path, tier):
    listed = [what for what, _ in scope.not_run(make_run(tmp_path / "run", tier=tier))]
    assert "Repeated builds and repeated attack seeds" in listed
    assert any("temperature" in what for what in listed)
    assert any("APGD-T" in what for what in listed)
    assert [source for source in ("S2", "S3", "S4", "S5", "S6") if any(f"({source}" in what for what in listed)] == ["S2", "S4", "S5", "S6"]


@pytest.mark.parametrize(
    ("words", "repeated"),
    [
        (["--out", "my runs/first"], []),
        (["--out=my runs/first", "--seed", "1"], ["--seed", "1"]),
        (["--resume", "runs/a", "--samples", "8", "--out", "runs/b"], ["--samples", "8"]),
        (["--model", "my nets/a b.onnx", "--outer"], ["--model", "my nets/a b.onnx", "--outer"]),
        (["--seed", "1", "--out"], ["--seed", "1"]),
    ],
)
def test_the_command_to_repeat_names_no_folder_that_exists(tmp_path, words, repeated):
    make_run(tmp_path / "run", command=["harness", "bench", *words])
    assert shlex.split(provenance.repeat(Run.open(tmp_path / "run")).code) == ["harness", "bench", *repeated]


def test_the_reasons_show_the_ratio_with_its_interval_and_mcnemars_p(tmp_path):
    record = make_run(tmp_path / "run")
    (reasons,) = [table for table in verdict.section(Run.open(tmp_path / "run")).tables if table.title == "Reasons"]
    for claim, transfer, row in zip(record.claims, [t for t in record.transfer if t.attack == "apgd-dlr"], reasons.rows, strict=True):
        assert row[3].text.startswith(f"{100 * transfer.engine_accuracy / transfer.twin_accuracy:.1f} % [")
        assert row[4].text[:3] == f"{mcnemar_p(transfer.flips.twin_only, transfer.flips.engine_only):#.3g}"[:3]
        assert claim.mcnemar_p == pytest.approx(mcnemar_p(transfer.flips.twin_only, transfer.flips.engine_only))
