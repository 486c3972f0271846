from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from harness.records import Gate, RunRecord, Verdict
from reports.terminal import print_verdict


def shown(rendered, variant: str) -> str:
    return printed(RunRecord.model_validate(json.loads(rendered(variant, "json").read_text())))


def printed(record: RunRecord) -> str:
    stream = io.StringIO()
    print_verdict(record, Console(file=stream, width=80))
    return stream.getvalue()


@pytest.mark.parametrize("variant", ["plain", "hostile", "synthetic", "emulated", "unrun", "unfinished", "bare"])
def test_it_fits_80_columns(rendered, variant):
    assert max(map(len, shown(rendered, variant).splitlines())) <= 80


def test_verdict_and_figures_of_every_engine_are_there(rendered):
    text = shown(rendered, "plain")
    record = RunRecord.model_validate(json.loads(rendered("plain", "json").read_text()))
    assert text.startswith("NOT REFUTED BY TRANSFER: ")
    for engine in record.engines:
        (line, *_) = [line for line in text.splitlines() if line.startswith(engine.flavour) and "MiB" in line]
        assert f"{100 * engine.clean.accuracy:.1f} %" in line and f"{engine.latency['1'].p50:.3g}"[:4] in line
    for claim in record.claims:
        assert f"{100 * claim.engine_robust.accuracy:.1f} %" in text and f"{claim.n}" in text


def test_without_batch_1_the_smallest_batch_that_was_timed_is_shown_and_named(rendered):
    record = RunRecord.model_validate(json.loads(rendered("plain", "json").read_text()))
    engines = [engine.model_copy(update={"latency": {"64": engine.latency["32"], "8": engine.latency["8"]}}) for engine in record.engines]
    text = printed(record.model_copy(update={"engines": engines}))
    assert "p50, batch 8" in text
    assert all(f"{engine.latency['8'].p50:.3g}" in text for engine in engines)
    assert max(map(len, text.splitlines())) <= 80


def test_where_nothing_was_timed_no_batch_is_named(rendered):
    record = RunRecord.model_validate(json.loads(rendered("plain", "json").read_text()))
    engines = [engine.model_copy(update={"latency": {}}) for engine in record.engines]
    assert "batch" not in printed(record.model_copy(update={"engines": engines}))


def test_a_long_precision_folds_before_an_engines_name(rendered):
    record = RunRecord.model_validate(json.loads(rendered("plain", "json").read_text()))
    evidence = record.engines[0].precision_evidence.model_copy(update={"label": "int8 claimed, float kernels"})
    engines = [engine.model_copy(update={"precision_evidence": evidence}) for engine in record.engines]
    text = printed(record.model_copy(update={"engines": engines}))
    assert max(map(len, text.splitlines())) <= 80
    for engine in engines:
        assert any(line.split(" ")[0] == engine.flavour and "MiB" in line for line in text.splitlines()), text


def test_names_are_not_obeyed_as_markup(rendered):
    text = shown(rendered, "hostile")
    assert "\x1b" not in text
    assert "[31m" in text


def test_a_failed_engine_says_what_happened(rendered):
    assert "onnx-fp16 crashed: the worker died with signal 11" in shown(rendered, "hostile")


def test_an_emulated_device_shows_no_duration(rendered):
    text = shown(rendered, "emulated")
    assert "EMULATED" in text and " ms" not in text and "withheld" in text


@pytest.mark.parametrize(("ms", "figure"), [(None, "withheld"), (0.00999, "withheld"), (0.0102, "> 0.0102 ms, est.")])
def test_an_engine_that_was_only_simulated_says_so_and_shows_a_floor_that_tells_something(rendered, ms, figure):
    record = json.loads(rendered("unrun", "json").read_text())
    for engine in record["engines"]:
        for floor in engine["roofline"]["floors"].values() if engine["roofline"] and ms is not None else ():
            floor["ms"] = ms
    text = " ".join(printed(RunRecord.model_validate(record)).split())
    assert "NOT RUN" in text and "int8," in text and " simulated" in text and figure in text
    assert ("est." in text) == ("est." in figure)


def test_an_unfinished_run_says_how_far_it_came(rendered):
    assert "stopped after the step 'exported'" in shown(rendered, "unfinished")


def test_a_failed_gate_says_what_it_saw_and_what_helps(rendered):
    record = RunRecord.model_validate(json.loads(rendered("plain", "json").read_text()))
    gate = Gate(
        name="rounding", engine=None, passed=False, observed="25 of 31 images", limit="at most 2%", remedy="Attack with more steps."
    )
    other = gate.model_copy(update={"name": "large radius", "passed": None, "remedy": "Suspect masked gradients."})
    text = " ".join(printed(record.model_copy(update={"gates": [gate, other]})).split())
    assert "gate 'rounding' failed: 25 of 31 images. Attack with more steps." in text
    assert "masked" not in text, "a gate that did not fail gives no advice"


def test_an_undecided_claim_says_why_how_many_images_would_decide_and_the_command(rendered):
    record = RunRecord.model_validate(json.loads(rendered("plain", "json").read_text()))
    words = ["harness", "bench", "--samples", "64", "--model", "x.onnx", "--out=runs/1"]
    data = record.data.model_copy(update={"n_clean": 1000, "name": "mine.npz"})

    def told(n: int) -> str:
        changes = {"verdict": Verdict.INCONCLUSIVE, "n_required": n, "reason": "Not below the margin."}
        claims = [claim.model_copy(update=changes) for claim in record.claims[:1]]
        changed = record.model_copy(update={"claims": claims, "verdict": Verdict.INCONCLUSIVE, "command": words, "data": data})
        return " ".join(printed(changed).split())

    assert f"{record.claims[0].engine}: Not below the margin. Next: harness bench --model x.onnx --samples 900" in told(900)
    assert "It takes 1,855 images, more than the 1,000 of mine.npz. With them: harness bench --model x.onnx --samples 1855" in told(1855)
