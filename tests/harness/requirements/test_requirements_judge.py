"""The outcome of each row: from bounds where there is chance, from the figure where there is none, and never from what does not count."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic import make_run

from harness.answers import TWIN, Answers, Column, Matrix
from harness.audit.statistics import exact, tango
from harness.errors import UsageError
from harness.records import Gate, Outcome, RunRecord, Step
from harness.requirements.accuracy import robust_accuracy, robustness_gap
from harness.requirements.file import read_requirements
from harness.requirements.judge import qualify
from harness.requirements.kinds import KINDS
from harness.requirements.reading import Question
from harness.requirements.write import draft
from reports.format import figure
from reports.outcomes import worst_cases
from reports.run import Run

PASS, FAIL, OPEN, ABSENT = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED


def rows(run: Path, text: str, place: Path) -> list:
    (place / "q.toml").write_text(f'engines = ["ort-int8"]\n{text}')
    return qualify(run, read_requirements(place / "q.toml")).requirements


def one(run: Path, text: str, place: Path):
    (row,) = rows(run, text, place)
    return row


# Figures of `finished`, as its record has them, decide what is near and what is far.
def limits(record: RunRecord) -> dict[str, tuple[str, str, str]]:
    """Kind -> text of a line with a limit that is met by far, missed by far, and too near to tell."""
    (engine,) = [e for e in record.engines if e.name == "ort-int8"]
    latency, clean, claim = engine.latency["1"], engine.clean, next(c for c in record.claims if c.engine == "ort-int8")
    p50, rate, exactly = latency.p50, latency.throughput_per_s, 100 * clean.accuracy

    def at_most(key: str, more: str, *figures: str) -> tuple[str, str, str]:
        return tuple(f'{key} = {{ {more}at_most = "{figure}" }}' for figure in figures)  # type: ignore[return-value]

    def at_least(key: str, more: str, *figures: str) -> tuple[str, str, str]:
        return tuple(f'{key} = {{ {more}at_least = "{figure}" }}' for figure in figures)  # type: ignore[return-value]

    robust = 100 * claim.engine_robust.accuracy
    return {
        "latency": at_most("latency", 'percentile = "p50", batch = 1, ', f"{2 * p50} ms", f"{p50 / 2} ms", f"{p50} ms"),
        "throughput": at_least("throughput", "batch = 1, ", f"{rate / 2} fps", f"{rate * 2} fps", f"{rate} fps"),
        "clean-accuracy": at_least("clean-accuracy", "", f"{exactly - 20} %", f"{exactly + 10} %", f"{exactly} %"),
        "robust-accuracy": at_least("robust-accuracy", "", f"{max(robust - 15, 0.1)} %", f"{robust + 20} %", f"{robust} %"),
    }


@pytest.mark.parametrize("kind", ["latency", "throughput", "clean-accuracy", "robust-accuracy"])
def test_a_limit_far_on_either_side_is_decided_and_one_at_the_figure_is_not(kind, finished, tmp_path):
    met, missed, near = limits(RunRecord.load(finished))[kind]
    for text, outcome in ((met, PASS), (missed, FAIL), (near, OPEN)):
        row = one(finished, text, tmp_path)
        assert row.outcome == outcome, (text, row)
        assert row.interval[0] <= row.observed <= row.interval[1]
    assert row.reason, "an open row says what would decide it"


def test_the_figures_are_those_of_the_record(finished, tmp_path):
    (engine,) = [e for e in RunRecord.load(finished).engines if e.name == "ort-int8"]
    found = rows(
        finished,
        'latency = { percentile = "p99", batch = 8, at_most = "1 s" }\nthroughput = { batch = 8, at_least = "1 fps" }\n'
        'clean-accuracy = { at_least = "1 %" }\nmemory = { at_most = "1 GiB" }\nload-time = { at_most = "1 s" }\n'
        'artefact = { at_most = "1 GB" }',
        tmp_path,
    )
    expected = [
        engine.latency["8"].p99,
        engine.latency["8"].throughput_per_s,
        engine.clean.accuracy,
        engine.memory.peak_bytes,
        engine.load_ms,
    ]
    assert [row.observed for row in found] == pytest.approx([*expected, engine.memory.artefact_bytes], rel=1e-3), "whole nanoseconds"
    assert [row.interval is None for row in found] == [False, False, False, True, True, True]
    assert {row.outcome for row in found} == {PASS}


def test_bounds_share_the_level_on_the_side_of_passing_alone(finished, tmp_path):
    (engine,) = [e for e in RunRecord.load(finished).engines if e.name == "ort-int8"]
    correct, n = engine.clean.correct, engine.clean.n
    for more, m in (("", 1), ('latency = { percentile = "p50", batch = 1, at_most = "1 s" }\nrobust-accuracy = { at_least = "1 %" }\n', 3)):
        text = f'confidence = 0.9\n{more}clean-accuracy = {{ at_least = "1 %" }}\nmemory = {{ at_most = "1 GB" }}'
        (tmp_path / "q.toml").write_text(f'engines = ["ort-int8"]\n{text}')
        record = qualify(finished, read_requirements(tmp_path / "q.toml"))
        (row,) = [row for row in record.requirements if row.kind == "clean-accuracy"]
        assert (record.qualification.sampled, record.qualification.level) == (m, pytest.approx(1 - 0.1 / m))
        assert row.interval == pytest.approx((exact(correct, n, 1 - 0.1 / m)[0], exact(correct, n, 0.9)[1]))


def test_more_rows_make_passing_harder_and_failing_no_harder(finished, tmp_path):
    (engine,) = [e for e in RunRecord.load(finished).engines if e.name == "ort-int8"]
    lower, upper = exact(engine.clean.correct, engine.clean.n, 0.95)
    others = "".join(f'[[latency]]\npercentile = "p{k}"\nbatch = 1\nat_most = "1 s"\n' for k in range(40, 60))
    for share, alone, beside in ((lower - 1e-4, PASS, OPEN), (upper + 1e-4, FAIL, FAIL)):
        text = f'clean-accuracy = {{ at_least = "{100 * share} %" }}\n'
        assert one(finished, text, tmp_path).outcome == alone
        (row,) = [row for row in rows(finished, text + others, tmp_path) if row.kind == "clean-accuracy"]
        assert row.outcome == beside


def test_the_gap_is_tangos_over_the_claims_images(finished, tmp_path):
    record = RunRecord.load(finished)
    row = one(finished, 'robustness-gap = { eps = "8/255", at_most = "5 points" }', tmp_path)
    (worst,) = [w for w in worst_cases(Run.open(finished)) if w.engine == "ort-int8" and w.eps == Fraction(8, 255)]
    assert row.observed == pytest.approx((worst.twin - worst.right) / worst.n)
    assert row.interval == pytest.approx(tango(worst.twin_only, worst.engine_only, worst.n, 0.95))
    assert record.data.n == worst.n


def test_no_loss_passes_where_there_is_nothing_to_lose(tmp_path):
    make_run(tmp_path / "run", n=400, n_clean=800, noise=0.0, gates=[])
    record = RunRecord.load(tmp_path / "run")
    weak = one(tmp_path / "run", 'robustness-gap = { at_most = "90 points" }', tmp_path)
    assert weak.outcome == OPEN and "to lose" in weak.reason
    claim = next(c for c in record.claims if c.engine == "ort-int8")
    assert claim.twin_robust.ci95[0] < 0.9


def changed(finished: Path, place: Path, **changes) -> Path:
    """A copy of a run whose record has other parts."""
    shutil.copytree(finished, place / "run")
    RunRecord.load(place / "run").model_copy(update=changes).save(place / "run")
    return place / "run"


LINES = {
    "latency": 'latency = { percentile = "p50", batch = 1, at_most = "1 s" }',
    "clean-accuracy": 'clean-accuracy = { at_least = "1 %" }',
    "memory": 'memory = { at_most = "1 GB" }',
}
MET = "\n".join(LINES.values())


def outcomes(found: list) -> dict[str, Outcome]:
    return {row.kind: row.outcome for row in found}


@pytest.mark.parametrize(
    ("gate", "open_"), [("clean parity", "clean-accuracy"), ("timed outputs", "latency"), ("nobody knows it", "clean-accuracy")]
)
def test_a_failed_gate_leaves_the_figures_open_that_rest_on_it_unless_it_may_fail(gate, open_, finished, tmp_path):
    failed = Gate(name=gate, engine="ort-int8", passed=False, observed="seen", limit="", remedy="Mend it.")
    run = changed(finished, tmp_path, gates=[failed])
    found = outcomes(rows(run, MET, tmp_path))
    assert {kind for kind, outcome in found.items() if outcome == OPEN} == {open_}
    if gate in ("clean parity", "timed outputs"):
        found = outcomes(rows(run, f'{MET}\ngates = {{ may_fail = ["{gate}"] }}', tmp_path))
        assert set(found.values()) == {PASS}
    assert outcomes(rows(run, "gates = { may_fail = [] }", tmp_path)) == {"gates": FAIL}


def test_a_gate_of_another_engine_matters_not(finished, tmp_path):
    failed = Gate(name="clean parity", engine="onnx-fp32", passed=False, observed="seen", limit="", remedy="Mend it.")
    run = changed(finished, tmp_path, gates=[*RunRecord.load(finished).gates, failed])
    assert set(outcomes(rows(run, f"{MET}\ngates = {{ may_fail = [] }}", tmp_path)).values()) == {PASS}


def test_an_invalid_measurement_does_not_count_unless_conditions_may_fail(finished, tmp_path):
    record = RunRecord.load(finished)
    bad = {b: lat.model_copy(update={"invalid": ["it throttled: cool it"]}) for b, lat in record.engines[1].latency.items()}
    run = changed(finished, tmp_path, engines=[record.engines[0], record.engines[1].model_copy(update={"latency": bad})])
    found = rows(run, MET, tmp_path)
    assert outcomes(found) == {"latency": OPEN, "clean-accuracy": PASS, "memory": PASS}
    assert "it throttled: cool it" in found[0].reason
    assert outcomes(rows(run, f'{MET}\ngates = {{ may_fail = ["conditions"] }}', tmp_path))["latency"] == PASS


@pytest.mark.parametrize("which", ["emulated", "synthetic"])
def test_a_clock_that_is_not_the_devices_measures_nothing(which, tmp_path):
    make_run(tmp_path / "run", gates=[], **{which: True})
    found = rows(
        tmp_path / "run", MET + '\nload-time = { at_most = "1 s" }\nhardware = { real = true }\nartefact = { at_most = "1 GB" }', tmp_path
    )
    assert outcomes(found) == {
        "latency": ABSENT, "memory": ABSENT, "load-time": ABSENT, "clean-accuracy": PASS, "hardware": FAIL, "artefact": PASS,
    }  # fmt: skip
    assert all(row.reason and row.observed is None for row in found if row.outcome == ABSENT)


def test_an_engine_that_did_not_run_passes_nothing_that_it_answered(tmp_path):
    make_run(tmp_path / "run", emulated=True, unrun=True)
    found = outcomes(rows(tmp_path / "run", MET + '\nrobust-accuracy = { at_least = "0.1 %" }\nhardware = { real = true }', tmp_path))
    assert found == {"latency": ABSENT, "memory": ABSENT, "clean-accuracy": OPEN, "robust-accuracy": OPEN, "hardware": FAIL}


def test_a_failed_engine_is_not_measured_and_says_why(tmp_path):
    make_run(tmp_path / "run", failed=True, gates=[])
    (name,) = [e.name for e in RunRecord.load(tmp_path / "run").engines if e.status != "ok"]
    (tmp_path / "q.toml").write_text(f'engines = ["{name}"]\n{MET}\nrobustness-gap = {{ at_most = "5 points" }}')
    found = qualify(tmp_path / "run", read_requirements(tmp_path / "q.toml")).requirements
    assert {row.outcome for row in found} == {ABSENT}
    assert all("crashed" in row.reason for row in found)


def test_what_the_run_has_not_is_not_measured_and_the_option_that_helps_is_named(finished, tmp_path):
    for text, words in {
        'latency = { percentile = "p50", batch = 64, at_most = "1 s" }': "--batch 64",
        'energy = { batch = 1, at_most = "1 J" }': "harness devices probe",
        'device-memory = { at_most = "1 GiB" }': "did not tell",
        'robust-accuracy = { eps = "3/255", at_least = "1 %" }': "--eps 3/255",
        'robust-accuracy = { source = "S4", at_least = "1 %" }': "No set of S4",
    }.items():
        row = one(finished, text, tmp_path)
        assert row.outcome == ABSENT and words in row.reason, row


def test_a_run_without_attacks_measures_no_robustness(tmp_path):
    make_run(tmp_path / "run", attacked=False, claims=[], gates=[], verdict=None)
    found = rows(
        tmp_path / "run",
        'robust-accuracy = { at_least = "1 %" }\nrobustness-gap = { at_most = "5 points" }\nimages = { at_least = 1 }\n'
        'sources = { all_of = ["S1"] }\ngates = { may_fail = [] }',
        tmp_path,
    )
    assert {row.outcome for row in found} == {ABSENT}


def test_missing_raw_timings_are_said(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run/timings/ort-int8-b1.npz").unlink()
    row = one(tmp_path / "run", LINES["latency"], tmp_path)
    assert row.outcome == ABSENT and "ort-int8-b1.npz is missing" in row.reason


def test_too_few_calls_have_no_bound_and_say_how_many_would_do(finished, tmp_path):
    row = one(finished, 'latency = { percentile = "p99", batch = 32, at_most = "10 s" }', tmp_path)
    assert row.outcome == OPEN and row.interval[1] is None
    assert "100 calls are too few" in row.reason and "299 would do" in row.reason, "0.99^299 <= 5 %"


@pytest.mark.parametrize(("percentile", "value"), [("p99.9", 9_990.0), ("p99", 9_900.0), ("p55", 5_500.0)])
def test_a_percentile_is_the_call_that_the_record_names(percentile, value, finished, tmp_path):
    """99.9 / 100 in floats is a little more than 0.999, and of 10,000 calls the next one would be taken."""
    shutil.copytree(finished, tmp_path / "run")
    calls = (1e6 * np.arange(1, 10_001)).astype(np.int64)
    np.savez(tmp_path / "run/timings/ort-int8-b1.npz", latency_ns=calls, round=np.zeros(10_000, np.int64))
    row = one(tmp_path / "run", f'latency = {{ percentile = "{percentile}", batch = 1, at_most = "1 s" }}', tmp_path)
    assert row.observed == np.quantile(calls / 1e6, float(percentile[1:]) / 100 - 1e-9, method="inverted_cdf") == value


def test_rounds_that_disagree_leave_a_percentile_open(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(level, 0.01, 400) for level in (1.0, 1.0, 1.0, 1.3, 1.0)]) * 1e6
    np.savez(tmp_path / "run/timings/ort-int8-b1.npz", latency_ns=values.astype(np.int64), round=np.repeat(np.arange(5), 400))
    text = 'latency = {{ percentile = "p50", batch = 1, at_most = "{} ms" }}'
    assert one(tmp_path / "run", text.format(1.1), tmp_path).outcome == OPEN
    assert one(tmp_path / "run", text.format(1.4), tmp_path).outcome == PASS
    assert one(tmp_path / "run", text.format(0.9), tmp_path).outcome == FAIL


def test_evidence_is_counted(finished, tmp_path):
    text = "images = {{ at_least = {} }}\nbuilds = {{ at_least = {} }}\nsources = {{ all_of = {} }}\nhardware = {{ real = true }}"
    assert set(outcomes(rows(finished, text.format(400, 1, '["S1", "S3"]'), tmp_path)).values()) == {PASS}
    found = outcomes(rows(finished, text.format(401, 2, '["S1", "S4"]'), tmp_path))
    assert found == {"images": FAIL, "builds": FAIL, "sources": FAIL, "hardware": PASS}


def test_a_build_with_other_settings_answers_for_robustness_and_not_for_time(finished, tmp_path):
    def with_a_second(record):
        engine = next(engine for engine in record.engines if engine.name == "ort-int8")
        other = {"build": 1, "name": "onnx-fp32", "varied": "other threads", "latency": {}}  # whose answers are there
        return [engine, engine.model_copy(update=other)]

    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    record = RunRecord.load(folder)
    run = record.model_copy(update={"engines": with_a_second(record)})
    run.save(folder)
    found = rows(folder, 'latency = { percentile = "p50", batch = 1, at_most = "1 s" }\nload-time = { at_most = "60 s" }', tmp_path)
    assert [(row.kind, row.engine, row.outcome) for row in found] == [("latency", "ort-int8", PASS), ("load-time", "ort-int8", PASS)]
    found = rows(folder, 'clean-accuracy = { at_least = "1 %" }\nbuilds = { at_least = 2 }', tmp_path)
    assert [(row.kind, row.engine) for row in found] == [
        ("clean-accuracy", "ort-int8"), ("clean-accuracy", "onnx-fp32"), ("builds", "ort-int8"), ("builds", "onnx-fp32"),
    ]  # fmt: skip


def test_a_float_engine_needs_no_set_of_its_quantizers(finished, tmp_path):
    (tmp_path / "q.toml").write_text('engines = ["onnx-fp32"]\nsources = { all_of = ["S1", "S3"] }')
    (row,) = qualify(finished, read_requirements(tmp_path / "q.toml")).requirements
    assert row.outcome == PASS and "S3 does not concern" in row.reason
    settings = RunRecord.load(finished).settings
    given = changed(finished, tmp_path / "given", settings=settings | {"flavours": ["file:models/onnx-fp32", "ort-int8"]})
    (row,) = qualify(given, read_requirements(tmp_path / "q.toml")).requirements
    assert row.outcome == FAIL and row.observed == ["S1"]


def test_without_names_the_float_control_is_left_out(finished, tmp_path):
    record = RunRecord.load(finished)
    claims = [claim.model_copy(update={"control": claim.engine == "onnx-fp32"}) for claim in record.claims]
    for changes in ({"claims": claims}, {"claims": []}):
        run = changed(finished, tmp_path / str(len(changes["claims"])), **changes)
        (tmp_path / "q.toml").write_text(MET)
        assert {row.engine for row in qualify(run, read_requirements(tmp_path / "q.toml")).requirements} == {"ort-int8"}


def test_an_engine_that_is_not_in_the_run_is_refused_with_its_line(finished, tmp_path):
    for text, line in (('\nengines = ["ort-int"]\n' + MET, 2), (MET + '\n[[artefact]]\nat_most = "1 B"\nengine = "ort-int"', 4)):
        (tmp_path / "q.toml").write_text(text)
        with pytest.raises(UsageError, match=rf"line {line}: unknown engine 'ort-int'. Did you mean ort-int8"):
            qualify(finished, read_requirements(tmp_path / "q.toml"))


def test_an_unfinished_run_is_refused(finished, tmp_path):
    run = changed(finished, tmp_path, status=Step.MEASURED)
    (tmp_path / "q.toml").write_text(MET)
    with pytest.raises(UsageError, match="harness bench --resume"):
        qualify(run, read_requirements(tmp_path / "q.toml"))


@pytest.mark.parametrize(
    "changes",
    [{"n": 400, "n_clean": 800, "noise": 0.02}, {"noise": 0.35}, {"emulated": True, "unrun": True}, {"synthetic": True},
     {"accelerator": True},
     {"hostile": True, "failed": True}, {"attacked": False, "claims": [], "gates": [], "verdict": None}],
    ids=str,
)  # fmt: skip
def test_a_run_passes_the_file_that_is_drafted_from_it(changes, tmp_path):
    make_run(tmp_path / "run", **changes)
    (tmp_path / "q.toml").write_text(draft(Run.open(tmp_path / "run")))
    found = qualify(tmp_path / "run", read_requirements(tmp_path / "q.toml")).requirements
    assert found
    assert [(row.name, row.engine) for row in found if row.outcome != PASS and row.engine in (None, "ort-int8", "onnx-fp32")] == []


def test_a_draft_says_of_equal_builds_once_and_of_others_the_worst(tmp_path):
    """Three builds of ort-int8: the file of the second is as large as the first's, that of the third larger."""
    record = make_run(tmp_path / "run")
    first = next(one for one in record.engines if one.name == "ort-int8")
    bytes_of = {2: first.memory.artefact_bytes, 3: 2 * first.memory.artefact_bytes}
    for added, (build, size) in enumerate(bytes_of.items(), 1):
        more = [
            first.model_copy(
                update={"name": f"ort-int8#{n}", "build": n - 1, "memory": first.memory.model_copy(update={"artefact_bytes": bytes_of[n]})}
            )
            for n in list(bytes_of)[:added]
        ]
        text = draft(Run.open(changed(tmp_path / "run", tmp_path / str(build), engines=[*record.engines, *more])))
        block = text[text.index("artefact = ") :]
        (line,) = [line for line in block[: block.index("]")].splitlines() if '"ort-int8"' in line]
        said = line.partition("# ")[2]
        assert said == figure(size, "B") + (", the worst of 3 builds" if build == 3 else ""), line


class _Given:
    sha256 = "7c" * 32

    def __init__(self, name, right):
        self.id, self.right = name, right

    def logits(self, images):
        return np.eye(2, dtype=np.float32)[self.right[images].astype(int)]  # class 1 is right


def test_what_a_source_was_not_shown_is_open_in_both_directions(tmp_path):
    """Ten images in a cascade: S1 breaks four for both and only shows S3 the rest, of which S3 breaks two more of the engine."""
    labels, everyone, rest = np.ones(10, np.int64), np.arange(10), np.arange(4, 10)
    sets = {"S1": (everyone, np.arange(10) >= 4, np.arange(10) >= 4), "S3": (rest, np.arange(10) >= 4, np.arange(10) >= 6)}
    answers = Answers(tmp_path)
    answers.begin(labels, everyone)
    columns = []
    for name, right in ((TWIN, np.ones(10, bool)), ("e", np.ones(10, bool))):
        answers.ask(_Given(name, right), "clean", everyone)
    for source, (index, twin, engine) in sets.items():
        for name, right in ((TWIN, twin), ("e", engine)):
            answers.ask(_Given(name, right), source, index)
        record = SimpleNamespace(source=source, target=TWIN if source == "S1" else "e", norm="Linf", eps_exact="8/255", set_sha256=source)
        columns.append(Column(record, index))
    engine = SimpleNamespace(name="e", flavour="e", status="ok", simulated=None)
    run = SimpleNamespace(raw=SimpleNamespace(gates=[], claims=[]), matrix=Matrix(answers, "clean", columns))

    def ask(reader, source):
        return reader(Question(run, engine, [engine], {"source": source, "eps": "8/255"}, frozenset()))

    assert ask(robust_accuracy, None).value == 0.4 and ask(robust_accuracy, None).bounds(0.9) == exact(4, 10, 0.9)
    assert ask(robust_accuracy, "S1").bounds(0.9) == exact(6, 10, 0.9), "the first source was shown all"
    alone = ask(robust_accuracy, "S3")
    assert alone.bounds(0.9) == (exact(4, 10, 0.9)[0], exact(8, 10, 0.9)[1])
    assert "4 images not shown to S3" in alone.reason
    gap = ask(robustness_gap, "S3")
    assert gap.value == 0.2
    assert gap.bounds(0.9) == (tango(2, 4, 10, 0.9)[0], tango(6, 0, 10, 0.9)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_is_there_and_says_what_it_reads(kind, finished):
    assert KINDS[kind].unit.what
    run = Run.open(finished)
    (engine,) = [e for e in run.raw.engines if e.name == "ort-int8"]
    options = {"batch": 1, "percentile": "p50", "eps": None, "source": None}
    reading = KINDS[kind].read(Question(run, engine, [engine], options, frozenset()))
    assert reading.value is not None or reading.reason
