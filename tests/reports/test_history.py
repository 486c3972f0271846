"""`harness history`: runs that are alike, joined; figures that do not count, left out and said."""

from __future__ import annotations

import json
import sys

import pytest
from synthetic import make_run

from harness import cli
from harness.errors import UsageError
from harness.records import SCHEMA
from reports.history import METRICS, read_records, render_history, series_of, to_text

pytestmark = pytest.mark.slow(20)


def changed(folder, **parts):
    """Make a run and change its record: `created`, or a function of the whole record."""
    make_run(folder)
    path = folder / "record.json"
    record = json.loads(path.read_text())
    for name, value in parts.items():
        value(record) if callable(value) else record.update({name: value})
    path.write_text(json.dumps(record))


def slower(factor):
    def change(record):
        for engine in record["engines"]:
            for latency in engine["latency"].values():
                latency["p50"] *= factor

    return change


def unsound(record):
    for claim in record["claims"]:
        claim["verdict"] = "UNTRUSTED"


@pytest.fixture
def runs(tmp_path):
    changed(tmp_path / "c", created="2026-03-01T00:00:00Z", _=slower(1.5))
    changed(tmp_path / "a", created="2026-01-01T00:00:00Z")
    changed(tmp_path / "fleet/b", created="2026-02-01T00:00:00Z", _=unsound)
    return tmp_path


def test_runs_stand_in_the_order_of_time_and_a_fleet_counts(runs):
    records, left_out = read_records(runs)
    assert (list(records), left_out) == (["a", "fleet/b", "c"], [])


def test_a_figure_that_does_not_count_is_a_gap_with_its_reason(runs):
    records, _ = read_records(runs)
    (one, *_) = series_of(records, METRICS["robust"])
    assert [value.figure is None for _, _, value in one.runs] == [False, True, False]
    assert one.runs[1][2].why == "UNTRUSTED"


def test_a_change_beyond_noise_is_named_with_its_direction(runs):
    text = to_text(runs, ["latency", "robust"])
    first = text.split("## Median")[0]
    assert "in fleet/b" in first and "in c: worse." in first
    assert "Robust accuracy" not in first.split("## What")[1], "it did not change"
    changed(runs / "d", created="2026-04-01T00:00:00Z", _=slower(1.52))
    assert "Nothing changed" in to_text(runs, ["latency"])
    changed(runs / "e", created="2026-05-01T00:00:00Z", _=slower(0.9))
    assert "better." in to_text(runs, ["latency"])


@pytest.mark.parametrize(
    "other",
    [
        lambda record: record["model"].update(name="another"),
        lambda record: record["device"].update(name="another"),
        lambda record: record["device"].update(emulated=True),
        lambda record: record["data"].update(sha256="0" * 64),
        lambda record: record.update(seed=7),
        lambda record: record.update(tier="bench"),
    ],
)
def test_runs_that_are_not_alike_are_never_joined(tmp_path, other):
    changed(tmp_path / "a", created="2026-01-01T00:00:00Z")
    changed(tmp_path / "b", created="2026-02-01T00:00:00Z", _=other)
    records, _ = read_records(tmp_path)
    for metric in METRICS.values():
        assert all(len(series.runs) == 1 for series in series_of(records, metric))


def test_times_of_other_hardware_are_never_joined_and_answers_are(tmp_path):
    def other(record):
        record["device"]["observed"]["cpu_model"] = "Another CPU"

    changed(tmp_path / "a", created="2026-01-01T00:00:00Z")
    changed(tmp_path / "b", created="2026-02-01T00:00:00Z", _=other)
    records, _ = read_records(tmp_path)
    for name, runs in (("latency", 1), ("memory", 1), ("robust", 2), ("size", 2)):
        assert all(len(series.runs) == runs for series in series_of(records, METRICS[name])), name
    assert any("Another CPU" in series.about for series in series_of(records, METRICS["latency"]))


def test_times_with_other_threads_are_never_joined(tmp_path):
    changed(tmp_path / "a", created="2026-01-01T00:00:00Z")
    changed(tmp_path / "b", created="2026-02-01T00:00:00Z", _=lambda record: record["device"]["observed"].update(threads=1))
    records, _ = read_records(tmp_path)
    for name, runs in (("latency", 1), ("memory", 1), ("robust", 2)):
        assert all(len(series.runs) == runs for series in series_of(records, METRICS[name])), name
    assert {"(1 thread)" in series.about for series in series_of(records, METRICS["latency"])} == {True, False}


def test_other_weights_of_one_name_are_joined(tmp_path):
    changed(tmp_path / "a", created="2026-01-01T00:00:00Z")
    changed(tmp_path / "b", created="2026-02-01T00:00:00Z", _=lambda record: record["model"].update(sha256="1" * 64))
    assert all(len(series.runs) == 2 for series in series_of(read_records(tmp_path)[0], METRICS["robust"]))


def test_an_emulators_time_is_withheld(tmp_path):
    make_run(tmp_path / "a", emulated=True)
    assert all(value.figure is None for series in series_of(read_records(tmp_path)[0], METRICS["latency"]) for _, _, value in series.runs)


def test_what_cannot_be_read_is_left_out_by_name(runs):
    for name, text in {"cut": '{"schema": ', "new": json.dumps({"schema": SCHEMA + 1}), "list": "[]"}.items():
        (runs / name).mkdir()
        (runs / name / "record.json").write_text(text)
    changed(runs / "open", status="exported")
    text = to_text(runs, ["clean"])
    assert all(f"Left out: {name}" in text for name in ("cut", "new", "list", "open"))
    assert "3 finished runs" in text


def test_without_a_finished_run_there_is_no_history(tmp_path):
    with pytest.raises(UsageError, match="no finished run"):
        read_records(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        read_records(tmp_path / "none")
    with pytest.raises(UsageError, match=r"unknown metric 'robst'. Did you mean robust"):
        make_run(tmp_path / "a")
        to_text(tmp_path, ["robst"])


def test_the_page_has_a_figure_for_each_line_that_says_its_values(runs, tmp_path):
    html, _ = render_history(runs, ["latency", "memory"], tmp_path / "out")
    page = html.read_text()
    several = [s for name in ("latency", "memory") for s in series_of(read_records(runs)[0], METRICS[name])]
    assert page.count("<svg") == len(several)
    assert 'aria-label="Median latency. ' in page and "<script" not in page


def test_the_bounds_of_a_gap_are_not_called_a_95_percent_interval(runs):
    gap, robust = (to_text(runs, [name]) for name in ("gap", "robust"))
    assert "| one-sided 95 % bounds |" in gap and "95 % interval" not in gap and "| 95 % interval |" in robust


def test_hostile_names_are_cleaned(tmp_path):
    make_run(tmp_path / "a", hostile=True)
    make_run(tmp_path / "b", hostile=True)
    html, md = render_history(tmp_path, list(METRICS), tmp_path / "out")
    assert "<script>alert" not in html.read_text() and "\x1b" not in md.read_text()


def test_the_command_prints_markdown_or_writes_files(runs, tmp_path, monkeypatch, capsys):
    for words, expected in ((["--metric", "robust,gap"], "## Twin less engine"), (["--out", str(tmp_path / "h")], "report.html")):
        monkeypatch.setattr(sys, "argv", ["harness", "history", str(runs), *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code in (0, None)
        assert expected in capsys.readouterr().out


def test_other_attacks_give_other_figures(tmp_path):
    """The same network, images and device: but one was attacked by more."""

    def sourced(record):
        for claim in record["claims"]:
            claim["sources"] = ["S1"]

    def fewer(record):
        sourced(record)
        record["attacks"] = []

    changed(tmp_path / "a", created="2026-01-01T00:00:00Z", _=sourced)
    changed(tmp_path / "b", created="2026-02-01T00:00:00Z", _=fewer)
    records, _ = read_records(tmp_path)
    assert all(len(series.runs) == 1 for series in series_of(records, METRICS["gap"]))
    assert all(len(series.runs) == 2 for series in series_of(records, METRICS["clean"]))


def test_a_link_to_a_run_is_no_other_run(runs):
    (runs / "latest").symlink_to(runs / "c")
    assert len(read_records(runs)[0]) == 3


def test_a_name_in_a_heading_cannot_become_markup(tmp_path):
    make_run(tmp_path / "a", hostile=True)
    headings = [line for line in to_text(tmp_path, ["clean"]).splitlines() if line.startswith("#")]
    assert len(headings) > 2 and not any("<script" in line for line in headings)
