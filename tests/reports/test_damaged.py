"""What is damaged or absent is named, and the rest of the report is made."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_run

from harness.errors import UntrustedError
from harness.records import RunRecord
from reports.render import render
from reports.salvage import salvage

pytestmark = [pytest.mark.slow(15), pytest.mark.usefixtures("figures_drawn_once")]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", rounds=5)
    return tmp_path / "run"


def rendered_though_damaged(run: Path, match: str) -> str:
    """The page; that it was made does not make the run sound."""
    with pytest.raises(UntrustedError, match=match):
        render(run, ["html", "md", "junit"])
    assert (run / "report.md").is_file() and (run / "report.junit.xml").is_file()
    return without_links(run / "report.html")


def without_links(page: Path) -> str:
    """The page but for the links to its glossary."""
    return re.sub(r"</?a\b[^>]*>", "", page.read_text())


@pytest.mark.parametrize("share", [0.35, 0.6, 0.9, 0.999])
def test_a_record_that_is_cut_off_shows_what_stands_before_the_cut_and_gives_no_verdict(run, share):
    whole = (run / "record.json").read_text()
    (run / "record.json").write_text(whole[: int(share * len(whole))])
    page = rendered_though_damaged(run, "What could still be read was written")
    assert "RECORD DAMAGED" in page and "must not be signed" in page and "all that followed where it is cut off" in page
    record = salvage(run).record
    assert record.verdict is None
    assert record.engines == RunRecord.model_validate_json(whole).engines[: len(record.engines)]


def test_every_cut_gives_a_beginning_of_the_record_or_is_refused(run):
    whole = (run / "record.json").read_text()
    sound = RunRecord.model_validate_json(whole)
    for end in range(0, len(whole), 997):
        (run / "record.json").write_text(whole[:end])
        found = salvage(run)
        if found is None:
            assert '"engines"' not in whole[:end], end
            with pytest.raises(UntrustedError, match="damaged"):
                render(run, ["html"])
            continue
        for part in ("engines", "attacks", "transfer", "gates", "claims"):
            kept = getattr(found.record, part)
            assert kept == getattr(sound, part)[: len(kept)], (part, end)


def test_a_record_that_nests_without_end_is_refused(run):
    whole = (run / "record.json").read_text()
    for text in ("[" * 100_000, whole.replace('"gates": [', '"gates": [' + "[" * 100_000, 1)):
        (run / "record.json").write_text(text)
        with pytest.raises(UntrustedError, match="damaged"):
            RunRecord.load(run)
        assert salvage(run) is None or salvage(run).record.gates == []


def test_an_engine_without_a_field_is_left_out_and_named(run):
    raw = json.loads((run / "record.json").read_text())
    del raw["engines"][0]["runtime"]
    (run / "record.json").write_text(json.dumps(raw))
    page = rendered_though_damaged(run, "engines.0.runtime")
    assert "engines[0]" in page and "RECORD DAMAGED" in page


def test_what_the_record_cannot_do_without_is_asked_for(run):
    raw = json.loads((run / "record.json").read_text())
    del raw["model"]
    (run / "record.json").write_text(json.dumps(raw))
    with pytest.raises(UntrustedError, match="model"):
        render(run, ["html"])
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", ["samples.parquet", "adversarial/clean.npz", "timings/onnx-fp32-b1.npz", "answers/images.npz"])
def test_a_damaged_file_costs_what_is_drawn_from_it_and_is_named(run, name):
    (run / name).write_bytes(b"PK\x03\x04 not really")
    page = rendered_though_damaged(run, name.rpartition("/")[2])
    assert "NOT REFUTED BY TRANSFER" in page and "The numbers that decide" in page and "Gates and warnings" in page
    assert f"{name} is" in page.replace("missing or damaged", "damaged")


def test_answers_that_were_swapped_are_named(run):
    """A whole row of another model's answers, or the labels, under the same names."""
    shutil.copytree(run / "answers/twin", run / "answers/ort-int8", dirs_exist_ok=True)
    page = rendered_though_damaged(run, r"twin and ort-int8 under S0 noise at 8/255, .*: 50, 1, 0 in the record, 51, 0, 0 by the answers")
    assert "was changed since the run" in page


def test_labels_that_were_changed_are_named(run):
    with np.load(run / "answers/images.npz") as stored:
        arrays = dict(stored)
    np.savez(run / "answers/images.npz", labels=np.roll(arrays["labels"], 1), index=arrays["index"])
    rendered_though_damaged(run, r"onnx-fp32, right on the clean images: \d+ in the record, \d+ by the answers")


def test_a_row_of_one_set_that_was_swapped_is_named(run):
    attack = next(attack for attack in RunRecord.load(run).attacks if attack.source == "S1")
    shutil.copy(run / f"answers/twin/{attack.set_sha256}.npy", run / f"answers/ort-int8/{attack.set_sha256}.npy")
    rendered_though_damaged(run, f"twin and ort-int8 under S1 {attack.name}")


def test_a_set_of_another_run_is_named(run):
    """The file says itself which set it is; one that does not is known by its images."""
    path = run / next(attack.file for attack in RunRecord.load(run).attacks if attack.source == "S1")
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **arrays, record=np.array(json.dumps({"set_sha256": "5e" * 32})))
    assert f"{path.name} is another set (5e5e" in rendered_though_damaged(run, "another set")
    np.savez(path, **{name: array[:-2] for name, array in arrays.items()})
    rendered_though_damaged(run, rf"the answers of \S+ to adversarial/{path.name} are 64, of 62 images")


def test_a_folder_of_answers_that_is_gone_costs_the_worst_cases_alone(run):
    shutil.rmtree(run / "answers")
    page = rendered_though_damaged(run, "answers")
    assert "35.9" in page, "the claims' figures stand in the record"
    assert "Each attack" in page


def test_a_run_that_was_stopped_while_an_engine_answered_names_once_what_is_left_out(run):
    record = RunRecord.load(run)
    last = next(attack for attack in record.attacks if attack.name == "apgd-dlr")
    (run / "answers/ort-int8" / f"{last.set_sha256}.npy").unlink()
    record.model_copy(update={"claims": [], "verdict": None, "status": "attacked"}).save(run)
    page = rendered_though_damaged(run, "--resume")
    assert "Left out: cascade, flips, security curve, worst cases" in page
    assert "No verdict yet: the run stopped after the step" in page


def test_a_run_of_nothing_at_all_is_rendered(tmp_path):
    make_run(tmp_path / "run", attacked=False, claims=[], gates=[], engines=[], verdict=None, status="started")
    shutil.rmtree(tmp_path / "run/answers")
    page = without_links(render(tmp_path / "run", ["html"])["html"])
    assert "No engine has been run" in page and "NO VERDICT YET" in page


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_figure_that_is_no_number_is_damage(tmp_path, figure):
    record = make_run(tmp_path / "run")
    path = tmp_path / "run/record.json"
    p50 = f'"p50": {record.engines[0].latency["1"].p50}'
    assert p50 in path.read_text()
    path.write_text(path.read_text().replace(p50, f'"p50": {figure}', 1))
    with pytest.raises(UntrustedError, match="no number"):
        RunRecord.load(tmp_path / "run")


def test_a_damaged_raw_file_stops_no_other_form(tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "run/samples.parquet").write_bytes(b"no parquet")
    with pytest.raises(UntrustedError, match=r"samples.parquet is damaged"):
        render(tmp_path / "run", ["csv", "parquet", "md", "latex"])
    folder = tmp_path / "run"
    assert {"engines.csv", "engines.parquet", "calls.parquet"} <= {path.name for path in (folder / "tables").iterdir()}
    assert not (folder / "tables/samples.parquet").exists()
    assert (folder / "report.md").exists() and (folder / "report.tex").exists()
