"""Where no image was left for an attack, every form of the report says so, instead of a blank or of a figure of no image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import make_run

from harness.answers import ANSWERS
from harness.records import Flips, Queries, RunRecord
from reports.render import render
from reports.run import Run
from reports.sections import sections

EMPTY = ("S1", "twin", "apgd-dlr", "8/255")
NOBODY = Flips(both_right=0, twin_only=0, engine_only=0, both_wrong=0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose last attack of the claim met no image."""
    folder = tmp_path / "run"
    record = make_run(folder, rounds=5)
    attack = next(a for a in record.attacks if (a.source, a.target, a.name, a.eps_exact) == EMPTY)
    with np.load(folder / attack.file) as stored:
        np.savez(folder / attack.file, **{name: stored[name][:0] for name in stored.files})
    for cell in (folder / ANSWERS).glob(f"*/{attack.set_sha256}.npy"):
        np.save(cell, np.load(cell)[:0])
    none = {"n": 0, "n_attacked": 0, "target_accuracy": 0.0, "l2_mean": 0.0, "linf_max": 0.0, "l2_median": None}
    empty = attack.model_copy(update={**none, "queries": Queries(total=0, median=0.0, largest=0)})
    nothing = {"n": 0, "twin_accuracy": 0.0, "engine_accuracy": 0.0, "ci95": (0.0, 1.0), "transfer_rate": None, "flips": NOBODY}
    transfer = [
        t.model_copy(update={**nothing, "transfer_ci95": None}) if (t.source, t.target, t.attack, t.eps_exact) == EMPTY else t
        for t in record.transfer
    ]
    claims = [claim.model_copy(update={"sources": ["S1", "S3"]}) for claim in record.claims]
    changed = {"attacks": [empty if a is attack else a for a in record.attacks], "transfer": transfer, "claims": claims}
    record.model_copy(update=changed).save(folder)
    return folder


def test_tables_say_that_no_image_was_left(run):
    found = {table.title: table for section in sections(Run.open(run)) for table in section.tables}
    for title in ("Images left at ε = 8/255", "Each attack", "What the attacks did"):
        table = found[title]
        rows = [row for row in table.rows if any(cell.text == "none left" for cell in row)]
        assert rows and all(any(cell.text == "apgd-dlr" for cell in row) for row in rows), title
        assert "one left: " in table.note
        blank = [row for row in table.rows if any(not cell.text for cell in row)]
        assert blank == [], title
    for row in (row for row in found["Each attack"].rows if row[-1].text == "none left"):
        assert {cell.text for cell in row[4:-1]} == {"–"}, "no share of no image"


def test_robustbench_names_apart_the_attacks_that_met_no_image(run):
    entries = json.loads(render(run, ["robustbench"])["robustbench"].read_text())
    for entry in entries:
        assert "No image was left for S1 apgd-dlr." in entry["footnote"]
        assert "S1 apgd-dlr" not in entry["footnote"].partition("worst case over")[2].partition(".")[0]


def test_tables_for_programs_leave_the_accuracies_of_no_image_empty(run):
    folder = render(run, ["csv"])["csv"]
    attacks, transfer = (pd.read_csv(folder / f"{name}.csv") for name in ("attacks", "transfer"))
    for frame, columns in (
        (attacks, ["target_accuracy"]),
        (transfer, ["twin_accuracy", "engine_accuracy", "engine_low", "engine_high"]),
    ):
        assert (frame["n"] == 0).any()
        for column in columns:
            assert (frame[column].isna() == (frame["n"] == 0)).all(), column


def test_every_form_is_written(run):
    render(run, ["html", "md", "junit", "parquet", "latex", "mlbom"])
    assert "apgd-dlr" in (run / "report.tex").read_text() and "No image was left" in (run / "report.tex").read_text()
    assert RunRecord.load(run).attacks
