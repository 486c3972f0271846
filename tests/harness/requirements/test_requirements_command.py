"""`harness report RUN --requirements`, `bench --requirements` and `init-requirements`: rows in every form, and exit codes."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from commandline import harness
from untrained import make_untrained

from harness.records import Outcome, RunRecord

pytestmark = pytest.mark.slow(50)

MET = 'engines = ["ort-int8"]\nmemory = { at_most = "1 GB" }\nclean-accuracy = { at_least = "1 %" }\n'
MISSED = MET + 'artefact = { at_most = "1 B" }\n'
LEFT_OPEN = MET + 'latency = { percentile = "p50", batch = 64, at_most = "1 s" }\n'


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def written(place: Path, text: str) -> str:
    (place / "q.toml").write_text(text)
    return str(place / "q.toml")


@pytest.mark.parametrize(("text", "code"), [(MET, 0), (MISSED, 1), (LEFT_OPEN, 3), (MISSED + LEFT_OPEN.removeprefix(MET), 1)])
def test_the_exit_code_is_that_of_the_worst_row(text, code, run, tmp_path, capsys):
    assert harness("report", str(run), "--requirements", written(tmp_path, text)) == code
    out = capsys.readouterr().out
    assert "Requirements of ort-int8: 2 PASS" in out and str(run / "report.html") in out
    assert max(map(len, out.splitlines()[: out.splitlines().index(str(run / "report.html"))])) <= 80


def test_rows_stand_in_the_record_the_reports_and_junit(run, tmp_path):
    formats = [word for name in ("html", "md", "junit", "json") for word in ("--format", name)]
    assert harness("report", str(run), "--requirements", written(tmp_path, MISSED + LEFT_OPEN.removeprefix(MET)), *formats) == 1
    record = RunRecord.load(run)
    assert [row.outcome for row in record.requirements] == [Outcome.PASS, Outcome.PASS, Outcome.FAIL, Outcome.NOT_MEASURED]
    assert record.qualification is not None and record.qualification.name == "q" and len(record.qualification.sha256) == 64
    markdown = (run / "report.md").read_text()
    html = re.sub(r"</?a\b[^>]*>", "", (run / "report.html").read_text())  # words of the glossary are links
    for row in record.requirements:
        assert f"| {row.name} | ort-int8 | {'**FAIL**' if row.outcome == Outcome.FAIL else row.outcome} |" in markdown
        assert row.name in html and row.outcome in html
    suite = next(s for s in ET.parse(run / "report.junit.xml").getroot() if s.get("name") == "requirements")
    assert (suite.get("tests"), suite.get("failures")) == ("4", "2"), "what was not measured must not show green"


def test_another_file_takes_the_place_of_the_first(run, tmp_path):
    for text, rows in ((MISSED, 3), (MET, 2)):
        harness("report", str(run), "--requirements", written(tmp_path, text))
        assert len(RunRecord.load(run).requirements) == rows


def test_a_run_without_requirements_has_no_chapter_on_them(run):
    assert harness("report", str(run)) == 0
    assert "equirement" not in (run / "report.md").read_text()


def test_a_wrong_file_changes_nothing(run, tmp_path, capsys):
    before = (run / "record.json").read_bytes()
    assert harness("report", str(run), "--requirements", written(tmp_path, MET + 'artefact = { at_most = "1" }')) == 2
    assert "q.toml, line 4: artefact: at_most" in capsys.readouterr().err
    assert (run / "record.json").read_bytes() == before


def test_what_is_drafted_from_a_run_is_met_by_it_and_overwrites_nothing(run, tmp_path, capsys):
    out = str(tmp_path / "drafted.toml")
    assert harness("init-requirements", str(run), "--out", out) == 0
    assert capsys.readouterr().out.strip() == out
    assert harness("report", str(run), "--requirements", out) == 0
    assert harness("init-requirements", str(run), "--out", out) == 2
    assert "exists" in capsys.readouterr().err


def test_a_draft_that_finds_the_disk_full_leaves_nothing_in_the_way_of_the_next(run, tmp_path, capsys, monkeypatch):
    """An empty file stayed, which the next attempt refused to write over."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "drafted.toml"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert harness("init-requirements", str(run), "--out", str(out)) == 2
    assert f"{out}: No space left" in capsys.readouterr().err and not out.exists()
    assert harness("init-requirements", str(run), "--out", str(out)) == 0


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return make_untrained(tmp_path_factory.mktemp("files"))


def bench(subject: list[str], *words: str) -> int:
    return harness("bench", *subject, "--device", "null", "--attack", "fgsm", "--samples", "4", "--source", "S1", *words)


def test_a_bench_ends_with_its_rows(subject, tmp_path):
    asked = written(tmp_path, 'artefact = { at_most = "1 B" }\nhardware = { real = true }\nmemory = { at_most = "1 GB" }')
    assert bench(subject, "--flavour", "onnx-fp32", "--batch", "1", "--requirements", asked, "--out", str(tmp_path / "run")) == 1
    found = RunRecord.load(tmp_path / "run").requirements
    assert {row.kind: row.outcome for row in found} == {"artefact": Outcome.FAIL, "hardware": Outcome.FAIL, "memory": Outcome.NOT_MEASURED}
    assert (tmp_path / "run/qualification.toml").read_text() == Path(asked).read_text(), "a resumed run finds them here"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('memory = { at_most = "1" }', "line 1: memory"),
        (MET.replace("ort-int8", "ort-int4"), "line 1: unknown engine 'ort-int4'. Did you mean ort-int8"),
        (
            '\nlatency = { percentile = "p50", batch = 64, at_most = "1 s" }',
            "line 2: batch 64 is not timed in this run (1, 8, 32). Add --batch 64.",
        ),
    ],
)
def test_a_file_that_this_run_could_not_answer_is_refused_before_any_work(text, said, subject, tmp_path, capsys):
    assert bench(subject, "--requirements", written(tmp_path, text), "--out", str(tmp_path / "run")) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_has_the_requirements_that_it_began_with(tmp_path, capsys):
    assert harness("bench", "--resume", str(tmp_path), "--requirements", written(tmp_path, MET)) == 2
    assert "harness report" in capsys.readouterr().err


def test_the_rows_are_shown_with_the_verdict(run, tmp_path):
    from rich.console import Console

    from reports.terminal import verdict_table

    harness("report", str(run), "--requirements", written(tmp_path, MISSED))
    console = Console(width=80, record=True, file=(tmp_path / "x").open("w"))
    console.print(verdict_table(RunRecord.load(run)))
    assert "Requirements of ort-int8: 2 PASS, 1 FAIL." in console.export_text()


def test_the_record_keeps_them_as_the_design_says(run, tmp_path):
    harness("report", str(run), "--requirements", written(tmp_path, MET))
    (row, _) = json.loads((run / "record.json").read_text())["requirements"]
    assert {"name", "limit", "observed", "interval", "outcome"} <= row.keys()
    assert (row["limit"], row["unit"], row["side"], row["line"]) == (1e9, "B", "at_most", 2)


def test_the_commands_of_the_page_run(finished, tmp_path, monkeypatch):
    for name in ("example", "last-release", "this"):
        shutil.copytree(finished, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs/requirements.md").read_text()
    commands = [line for block in re.findall(r"```sh\n(.*?)```", page, re.S) for line in block.splitlines()]
    assert [line.split()[1] for line in commands] == ["init-requirements", "report", "compare"]
    assert [harness(*shlex.split(line)[1:]) for line in commands] == [0, 0, 3], "one round says nothing of a change of latency"
