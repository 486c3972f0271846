"""A sweep's report: what it says of gains, of devices without a clock, of cells that failed, and of texts from outside."""

import re

import pytest

from harness.errors import UntrustedError, UsageError
from harness.records import Share, Verdict
from harness.sweep.record import SWEEP, AgainstParent, CellRow, DeviceRow, EngineRow, Front, Point, Size, SweepRecord
from reports.markdown import document
from reports.sweep import gains, latency_ratio, render_sweep, sections
from reports.sweep_terminal import print_sweep

HALF = Share(correct=50, n=100, accuracy=0.5, ci95=(0.4038, 0.5962))
SIZE = Size(parameters=100, nonzero=100, weight_bits=3200, file_bytes=400, macs=1000, macs_nonzero=1000)


def engine(ratio: float | None) -> EngineRow:
    against = None if ratio is None else AgainstParent(latency={"8": 9.0, "1": ratio}, memory=1.0, artefact=2.0)
    return EngineRow(
        flavour="ort-int8", status="ok", error=None, precision="int8", clean=HALF, robust=HALF, verdict=None,
        latency_ms={"1": 2.0, "8": 4.0}, memory_bytes=2**20, artefact_bytes=2048, simulated=False, against_parent=against,
    )  # fmt: skip


def child(ratio: float, **changes: object) -> CellRow:
    base = {
        "label": "net-hydra-0.9-s0", "parent": "net", "method": "hydra", "rate": "0.9", "pattern": "irregular", "seed": 0,
        "status": "finished", "eps": "8/255", "clean": HALF, "robust": HALF, "size": SIZE, "gamma": dict.fromkeys(Size.model_fields, 10.0),
        "engines": [engine(ratio)], "run": "/cache/runs/1",
    }  # fmt: skip
    return CellRow(**{**base, **changes})


def record(*cells: CellRow, **changes: object) -> SweepRecord:
    parent = CellRow(label="net", parent="net", status="finished", eps="8/255", clean=HALF, robust=HALF, engines=[engine(None)], run="/r")
    base = {
        "name": "night", "created": "2026-01-01T00:00:00Z", "harness_version": "0", "command": ["harness"], "spec": {}, "executor": "local",
        "cache": "/cache", "environment": {}, "device": DeviceRow(name="host", synthetic=False, emulated=False), "tier": "quick",
        "cells": [parent, *cells],
    }  # fmt: skip
    return SweepRecord(**{**base, **changes})


@pytest.mark.parametrize(
    ("ratio", "pattern", "words"),
    [
        (1.0, "irregular", "Irregular sparsity bought nothing in latency: net-hydra-0.9-s0 with ort-int8 1.00x."),
        (1.09, "filter", "Filter sparsity bought nothing in latency: net-hydra-0.9-s0 with ort-int8 1.09x."),
        (0.93, "irregular", "Irregular sparsity bought nothing in latency: net-hydra-0.9-s0 with ort-int8 0.93x."),
        (1.5, "2:4", "2:4 sparsity shortened latency: net-hydra-0.9-s0 with ort-int8 1.50x."),
        (0.5, None, "Hydra lengthened latency: net-hydra-0.9-s0 with ort-int8 0.50x."),
    ],
)
def test_what_was_bought_is_said_in_words_at_the_smallest_batch(ratio: float, pattern: str | None, words: str) -> None:
    assert next(gains(record(child(ratio, pattern=pattern)))) == words


def test_a_gain_is_of_the_batch_whose_latency_stands_beside_it() -> None:
    """The parent's batch 1 did not count: batch 8 was 9 times as fast, and stood beside the latency of batch 1."""
    half = engine(1.5).model_copy(update={"against_parent": AgainstParent(latency={"8": 9.0})})
    whole = record(child(1.0, engines=[half]))
    assert latency_ratio(half) is None and not list(gains(whole))
    assert latency_ratio(engine(1.5)) == 1.5


def test_the_bits_of_a_network_hold_its_mask() -> None:
    (table,) = next(section for section in sections(record(child(1.0))) if section.key == "size").tables
    assert "a mask of one bit per entry" in table.note and "not counted" not in table.note


def test_a_device_without_a_clock_says_nothing_of_latency() -> None:
    silent = engine(None).model_copy(update={"latency_ms": {}, "against_parent": AgainstParent()})
    assert not list(gains(record(child(1.0, engines=[silent]), device=DeviceRow(name="pi", synthetic=False, emulated=True))))


def test_latencies_that_do_not_count_say_why() -> None:
    late = engine(None).model_copy(update={"latency_ms": {}, "latency_invalid": "another program took 40 % of the CPU. Stop it."})
    whole = record(child(1.0, engines=[late]))
    text = document("", "", sections(whole))
    assert "INVALID: latencies of 1 engine do not count (net-hydra-0.9-s0 with ort-int8): another program took 40 % of the CPU" in text
    assert "| **INVALID** |" in text and not list(gains(whole))


@pytest.mark.parametrize("verdict", [Verdict.UNTRUSTED, Verdict.ENGINE_FAILED, None])
def test_what_is_no_candidate_is_named(verdict: Verdict | None) -> None:
    whole = record(child(1.0, engines=[engine(None).model_copy(update={"verdict": verdict})]))
    text = document("", "", sections(whole))
    assert f"net-hydra-0.9-s0, ort-int8 ({verdict or 'no verdict'})" in text


def front() -> Front:
    points = [
        Point(name=n, cost=c, robust=HALF, on_front=n == "a", given_up=0.0, given_up_at_most=0.01) for n, c in (("a", 1.0), ("b", 900.0))
    ]
    return Front(
        axis="size", eps="8/255", unit="KiB", what="artefact size", delta=0.05, points=points, recommended="a", rule="the cheapest.",
        reason="a is cheap.",
    )  # fmt: skip


def test_both_formats_say_the_same_and_obey_no_text_from_outside(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = child(1.0, label="<script>alert(1)</script> [red] | x", status="failed", error="no\nspace <b>", verdict=None, run=None)
    whole = record(child(1.5), evil, fronts=[front()])
    whole.save(tmp_path)
    assert SweepRecord.load(tmp_path) == whole
    html, text = (path.read_text() for path in render_sweep(tmp_path))
    assert "<script>" not in html and "<b>" not in html and "<script>" not in text
    for words in ("Rule. the cheapest.", "By artefact size, attacked at 8/255: a", "50.0", "γ bits", "1.50x"):
        assert words in re.sub(r"<[^>]*>", "", html).replace("\u00a0", " ") and words in text
    assert 'href="#term-artefact"' in html and 'id="term-artefact"' in html
    assert html.count('<svg class="plot"') == 1 and "$\\mathdefault" not in html
    print_sweep(whole)
    out = capsys.readouterr().out
    assert "[red]" in out and "no ⏎ space <b>" in out and max(map(len, out.splitlines())) <= 80


def test_no_front_is_said(tmp_path) -> None:
    text = "\n".join(paragraph for section in sections(record()) for paragraph in section.paragraphs)
    assert "None: it takes at least two engines" in text


def test_a_record_of_another_version_or_none_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="not the folder of a sweep"):
        SweepRecord.load(tmp_path)
    for damage in ('{"schema": 99}', "[]", "{", '{"schema": 1}', '{"schema": 2}'):
        (tmp_path / SWEEP).write_text(damage)
        with pytest.raises(UntrustedError):
            SweepRecord.load(tmp_path)
