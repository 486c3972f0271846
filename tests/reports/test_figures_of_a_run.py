"""What the figures and tables of a run are computed from: the cascade, the Pareto front, rounds, and the answers under a flipped image."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import make_run

from harness.answers import TWIN
from harness.records import Verdict
from reports.cascade import cascade
from reports.flips import chosen
from reports.outcomes import worst_cases
from reports.pareto import planes
from reports.rounds import turns
from reports.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    make_run(folder)
    return Run.open(folder)


def test_the_cascade_ends_at_the_worst_case_and_never_rises(run):
    models, stages = cascade(run)
    assert models == [TWIN, "onnx-fp32", "ort-int8"]
    assert [stage.attack for stage in stages] == ["no attack (clean)", "pgd", "apgd-ce", "apgd-dlr", "apgd-ce"]
    for model in models:
        left = [stage.left[model] for stage in stages]
        assert left == sorted(left, reverse=True) and left[0] > left[-1]
    last = {case.engine: case for case in worst_cases(run) if str(case.eps) == "8/255"}
    # The twin's worst case of the small radii is contained in that of the large one here: what 1/255 breaks, 8/255 breaks.
    assert {name: stages[-1].left[name] for name in last} == {name: case.right for name, case in last.items()}


def test_a_set_counts_for_the_twin_and_the_engine_it_is_aimed_at(run):
    _, stages = cascade(run)
    assert stages[1].counts_for == {TWIN, "onnx-fp32", "ort-int8"}
    assert (stages[-1].made_on, stages[-1].counts_for) == ("S3, ort-int8", {TWIN, "ort-int8"}), "its claim has the twin face it too"


def test_an_engine_that_is_beaten_in_both_is_not_on_the_front(run):
    record = run.record
    small = record.engines[1].memory.model_copy(update={"artefact_bytes": 10})
    engines = [record.engines[0], record.engines[1].model_copy(update={"memory": small})]
    best = record.claims[0].engine_robust
    claims = [claim.model_copy(update={"engine_robust": best}) for claim in record.claims]
    by_cost = {plane.cost: plane for plane in planes(record.model_copy(update={"engines": engines, "claims": claims}))}
    assert {spot.engine: spot.beaten_by for spot in by_cost["file"].spots} == {"onnx-fp32": "ort-int8", "ort-int8": ""}
    assert {spot.engine: spot.beaten_by for spot in by_cost["peak memory"].spots} == {"onnx-fp32": "", "ort-int8": ""}, "equal: neither"


def test_no_front_of_one_engine_of_figures_that_decide_nothing_or_of_an_emulators_clock(run):
    record = run.record
    untrusted = [claim.model_copy(update={"verdict": Verdict.UNTRUSTED}) for claim in record.claims]
    assert not list(planes(record.model_copy(update={"claims": record.claims[:1]})))
    assert not list(
        planes(type(record).model_validate({**record.model_dump(by_alias=True), "claims": [c.model_dump() for c in untrusted]}))
    )
    emulated = record.device.model_copy(update={"emulated": True})
    assert [plane.cost for plane in planes(record.model_copy(update={"device": emulated}))] == ["file"]


def test_rounds_give_medians_and_what_was_sampled_then(tmp_path):
    record = make_run(tmp_path / "run", rounds=5)
    engine = record.engines[0]
    raw = engine.latency["1"].raw
    second = 1_000_000_000
    np.savez(
        tmp_path / "run" / raw,
        latency_ns=np.array([1, 1, 2, 2, 2]) * 1_000_000,
        round=np.array([0, 0, 1, 1, 1]),
        start_ns=np.array([1, 1, 3, 3, 3]) * second,
    )
    samples = {"x/time_ns": np.array([0, 2, 4]) * second, "x/temperature_c:a": np.array([40.0, 42.0, 44.0])}
    np.savez(tmp_path / "run/timings/t.npz", **samples, **{"x/frequency_hz:cpu": np.array([2e9, 2e9, 1e9])})
    telemetry = {"period_ms": 100, "cpu_share": 0.0, "samples": {}, "absent": {}, "raw": "timings/t.npz"}
    changed = engine.model_validate({**engine.model_dump(), "telemetry": telemetry})
    record.model_copy(update={"engines": [changed, *record.engines[1:]]}).save(tmp_path / "run")
    first, _ = turns(Run.open(tmp_path / "run"), "1")
    assert first.median.tolist() == [1.0, 2.0]
    assert first.temperature.tolist() == [41.0, 43.0]
    assert first.clock.tolist() == [2.0, 1.5]


def test_under_a_flipped_image_stands_what_every_engine_says(run):
    flips, _ = chosen(run)
    for flip in flips:
        assert flip.answers.keys() == {"onnx-fp32", "ort-int8"}
        assert flip.answers[flip.engine] == flip.engine_prediction
