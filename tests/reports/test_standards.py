"""The mapping to standards names chapters that are there, nothing that a run did not make, and claims no conformity."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from synthetic import make_run

from harness.records import LoadGen
from reports.run import Run
from reports.sections import sections, standards

PROSE = {"the sheet to sign, and the evidence behind it"}


@pytest.fixture
def full(tmp_path: Path) -> Run:
    """A run with every source that a row needs, and an engine that LoadGen drove."""
    record = make_run(tmp_path / "run", rounds=5)
    driven = record.engines[0].model_copy(
        update={"loadgen": LoadGen(scenario="SingleStream", valid=True, figures={"QPS w/o loadgen overhead": "200"}, logs="loadgen")}
    )
    asked = record.attacks[0].model_copy(update={"source": "S4"})
    record.model_copy(update={"engines": [driven, *record.engines[1:]], "attacks": [*record.attacks, asked]}).save(tmp_path / "run")
    return Run.open(tmp_path / "run")


def shown(run: Run) -> dict[tuple[str, str], str]:
    (table,) = standards.section(run).tables
    return {(row[0].text, row[1].text): row[3].text for row in table.rows}


def test_every_chapter_that_is_named_is_in_the_report(full):
    every = sections(full)
    titles = {section.title for section in every} | {table.title for section in every for table in section.tables}
    for part, text in shown(full).items():
        if text in PROSE or text.startswith("nothing: attacks bound"):
            continue
        for name in text.split("; "):
            assert re.sub(r" \(.*\)$", "", name) in titles, (part, name)


def test_what_a_run_did_not_make_is_no_evidence(tmp_path, full):
    make_run(tmp_path / "bare", attacked=False, claims=[], gates=[], verdict=None)
    without = shown(Run.open(tmp_path / "bare"))
    nothing = {part for _, part in (key for key, text in without.items() if text == standards.NOTHING)}
    assert {"IMP-10", "Article 15(5)", "MEASURE 2.7", "2.2.1 white-box evasion", "2.2.2 black-box evasion"} <= nothing
    assert {"IMP-04", "IMP-08"} & nothing == set()
    assert standards.NOTHING not in shown(full).values()
    make_run(tmp_path / "none", attacked=False, claims=[], gates=[], engines=[], verdict=None)
    assert set(shown(Run.open(tmp_path / "none")).values()) == {
        standards.NOTHING,
        "nothing: attacks bound robustness from above and prove nothing",
    }


def test_every_row_says_what_is_not_shown_and_none_claims_conformity(full):
    (table,) = standards.section(full).tables
    assert all(cell.text.strip() for row in table.rows for cell in row)
    words = " ".join([standards.INTRODUCTION, *(cell.text for row in table.rows for cell in row)])
    assert "claims no conformity" in words
    assert not re.search(r"compl(y|ies|iant|iance)|conform(s|ant|ing)?\b|certified|fulfil|satisf", words)
