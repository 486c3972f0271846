from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from synthetic import make_run

from harness.errors import UntrustedError, UsageError
from harness.records import SCHEMA, RunRecord
from reports.render import FORMATS, render

EXPECTED = {
    "html": "report.html",
    "md": "report.md",
    "json": "record.json",
    "junit": "report.junit.xml",
    "csv": "tables",
    "parquet": "tables",
    "latex": "report.tex",
    "robustbench": "robustbench.json",
    "mlbom": "mlbom.cdx.json",
}


def test_every_format_is_written_into_the_run_folder(tmp_path):
    folder = tmp_path / "run"
    make_run(folder)
    before = {path.name for path in folder.iterdir()}
    assert render(folder, list(FORMATS)) == {name: folder / file for name, file in EXPECTED.items()}
    assert {path.name for path in folder.iterdir()} - before == set(EXPECTED.values()) - {"record.json"}


def test_json_is_the_record_untouched(tmp_path):
    record = make_run(tmp_path / "run")
    path = render(tmp_path / "run", ["json"])["json"]
    assert RunRecord.model_validate(json.loads(path.read_text())) == record


def test_only_the_named_formats_are_written(tmp_path):
    make_run(tmp_path / "run")
    assert set(render(tmp_path / "run", ["junit"])) == {"junit"}
    assert not (tmp_path / "run/report.md").exists()


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    make_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"unknown format 'pdf'.*csv, html, json, junit, latex, md, mlbom, parquet, robustbench"):
        render(tmp_path / "run", ["md", "pdf"])
    assert not (tmp_path / "run/report.md").exists()


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a run folder"):
        render(tmp_path, ["md"])


@pytest.mark.parametrize("name", FORMATS)
def test_an_unknown_schema_is_refused_by_every_format(tmp_path, name):
    make_run(tmp_path / "run")
    path = tmp_path / "run/record.json"
    path.write_text(path.read_text().replace(f'"schema": {SCHEMA}', '"schema": 99'))
    with pytest.raises(UntrustedError, match="schema 99"):
        render(tmp_path / "run", [name])


def test_rendering_twice_gives_the_same_bytes(tmp_path):
    make_run(tmp_path / "run")
    first = render(tmp_path / "run", ["html"])["html"].read_bytes()
    assert render(tmp_path / "run", ["html"])["html"].read_bytes() == first


def test_missing_raw_files_are_named_and_their_figures_left_out(tmp_path):
    make_run(tmp_path / "run", rounds=5)
    for name in ("samples.parquet", "timings/ort-int8-b1.npz", "adversarial/clean.npz"):
        (tmp_path / "run" / name).unlink()
    page = re.sub(r"</?a\b[^>]*>", "", render(tmp_path / "run", ["html"])["html"].read_text())
    assert "timings/ort-int8-b1.npz, adversarial/clean.npz, samples.parquet" in page
    assert "Latency at batch 1, " in page and "<img" not in page
    assert "Security curve" in page, "it is drawn from the answers"
    assert "Each attack" in page


def test_importing_the_reports_imports_no_plotting_and_no_torch():
    heavy = "{'torch', 'pandas', 'matplotlib', 'seaborn', 'scipy', 'jinja2', 'PIL'}"
    code = f"import sys, reports.render, reports.terminal; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
