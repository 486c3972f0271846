"""`harness compare --fail-on`: what became worse by more than its limit, paired where the images are the same, and runs that are unlike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commandline import harness
from scipy.stats import ttest_ind
from synthetic import make_run

from harness.answers import TWIN, Answers, Column, Matrix
from harness.audit.metrics import flips
from harness.audit.statistics import share, tango, welch_bounds
from harness.errors import UsageError
from harness.records import Outcome, RunRecord, Transfer
from harness.requirements.regression import CHANGES, parse_limits, regressions
from reports.run import Run

ENGINE = "ort-int8"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before") / "before"
    make_run(folder, n=400, n_clean=800, noise=0.02, gates=[])
    timed(folder, 1.0)
    return folder


def timed(folder: Path, factor: float, spread: float = 0.01) -> None:
    """Ten rounds at every batch size, so many times as slow as one millisecond."""
    rng = np.random.default_rng(int(1000 * factor))
    for path in (folder / "timings").glob("*.npz"):
        ms = factor * np.repeat(1 + spread * rng.normal(size=10), 20) * (1 + 0.01 * rng.random(200))
        np.savez(path, latency_ns=(1e6 * ms).astype(np.int64), round=np.repeat(np.arange(10), 20))


def later(before: Path, place: Path, change: Callable[[Path], None]) -> Path:
    """A copy of a run with something changed."""
    folder = Path(shutil.copytree(before, place / "after"))
    change(folder)
    return folder


def rows(before: Path, after: Path, limits: str, *, unlike: bool = False) -> list:
    runs = {"before": Run.open(before), "after": Run.open(after)}
    found, _ = regressions(runs, parse_limits(limits), unlike=unlike)
    return [row for row in found if row.engine.startswith(ENGINE)]


def worse_answers(folder: Path, share: float, sets: str) -> None:
    """The engine loses that share of the images that it has right: clean ones, or those of the attacked sets."""
    record, answers = RunRecord.load(folder), Answers(folder)
    labels, index = answers.subject()
    for sha256, which in [(record.data.sha256, np.arange(len(labels)))] + [
        (a.set_sha256, index) for a in record.attacks if a.n == len(index)
    ]:
        if (sha256 == record.data.sha256) == (sets == "clean"):
            cell = answers.get(ENGINE, sha256)
            assert cell is not None
            lost = which % round(1 / share) == 0
            cell[lost] = np.roll(np.eye(10, dtype=np.float32), 1, axis=1)[labels[which[lost]]]
            np.save(folder / "answers" / ENGINE / f"{sha256}.npy", cell)
    counted_again(folder)


def counted_again(folder: Path) -> None:
    """The record as it would count these answers."""
    record = RunRecord.load(folder)
    columns = {(a.source, a.target, a.name, a.eps_exact): Column(a, np.arange(a.n)) for a in record.attacks}
    matrix = Matrix(Answers(folder), record.data.sha256, list(columns.values()))

    def flipped(told: Transfer) -> Transfer:
        column = columns.get((told.source, told.target, told.attack, told.eps_exact))
        if column is None:
            return told
        twin, engine = (matrix.right(model)[column.index] & matrix.right(model, column) for model in (TWIN, told.engine))
        return told.model_copy(update={"flips": flips(twin, engine)})

    engines = [one.model_copy(update={"clean": share(int(matrix.right(one.name).sum()), len(matrix.labels))}) for one in record.engines]
    record.model_copy(update={"engines": engines, "transfer": [flipped(told) for told in record.transfer]}).save(folder)


@pytest.mark.parametrize(
    ("factor", "limit", "outcome"), [(1.0, "5%", "PASS"), (1.2, "5%", "FAIL"), (1.05, "5%", "INCONCLUSIVE"), (0.8, "5%", "PASS")]
)
def test_latency_is_a_ratio_with_bounds_from_the_rounds(factor, limit, outcome, before, tmp_path):
    found = rows(before, later(before, tmp_path, lambda folder: timed(folder, factor)), f"latency:{limit}")
    assert [row.engine for row in found] == [f"{ENGINE}, batch {batch}" for batch in (1, 8, 32)]
    assert {row.outcome for row in found} == {outcome}
    for row in found:
        assert row.observed == pytest.approx(factor - 1, abs=0.02)
        assert row.interval[0] <= row.observed <= row.interval[1]


def test_a_median_without_rounds_has_no_bounds_and_decides_nothing(before, tmp_path):
    def one_round(folder: Path) -> None:
        for path in (folder / "timings").glob("*.npz"):
            np.savez(path, latency_ns=np.full(100, 3_000_000))

    found = rows(before, later(before, tmp_path, one_round), "latency:5%")
    assert {row.outcome for row in found} == {Outcome.INCONCLUSIVE}


def test_an_invalid_measurement_does_not_count(before, tmp_path):
    def spoil(folder: Path) -> None:
        record = RunRecord.load(folder)
        engines = [
            e.model_copy(update={"latency": {b: m.model_copy(update={"invalid": ["it throttled"]}) for b, m in e.latency.items()}})
            for e in record.engines
        ]
        record.model_copy(update={"engines": engines}).save(folder)

    found = rows(before, later(before, tmp_path, spoil), "latency:5%,memory:5%")
    assert [row.outcome for row in found] == [Outcome.INCONCLUSIVE] * 3 + [Outcome.PASS]
    assert "it throttled" in found[0].reason


def test_single_readings_are_compared_as_they_are(before, tmp_path):
    def heavier(folder: Path) -> None:
        record = RunRecord.load(folder)
        engines = [
            e.model_copy(
                update={"memory": e.memory.model_copy(update={"peak_bytes": round(1.5 * e.memory.peak_bytes)}), "load_ms": e.load_ms / 2}
            )
            for e in record.engines
        ]
        record.model_copy(update={"engines": engines}).save(folder)

    found = {row.kind: row for row in rows(before, later(before, tmp_path, heavier), "memory:10%,load:10%,artefact:1%")}
    assert {kind: row.outcome for kind, row in found.items()} == {"memory": "FAIL", "load": "PASS", "artefact": "PASS"}
    assert (
        found["memory"].observed == pytest.approx(0.5) and found["load"].observed == pytest.approx(-0.5) and found["artefact"].observed == 0
    )


@pytest.mark.parametrize("sets", ["clean", "robust"])
def test_accuracy_is_paired_image_by_image(sets, before, tmp_path):
    same = rows(before, later(before, tmp_path / "same", lambda _: None), f"{sets}:2pt")
    assert [(row.outcome, row.observed) for row in same] == [(Outcome.PASS, 0.0)]
    after = later(before, tmp_path / "worse", lambda folder: worse_answers(folder, 0.1, sets))
    (row,) = rows(before, after, f"{sets}:2pt")
    assert row.outcome == Outcome.FAIL and row.observed > 0.02
    lost = round(row.observed * n(sets, before))
    plain, shared = (tango(lost, 0, n(sets, before), level) for level in (0.95, 0.975))  # of two engines, each has a row
    assert row.interval == pytest.approx((plain[0], shared[1]))


def without_attacks(folder: Path) -> None:
    """Of the sets that count for the engine only the first is left."""
    record = RunRecord.load(folder)
    kept = [a for a in record.attacks if a.source == "S1"][:1]
    assert len(kept) < len([a for a in record.attacks if a.source in ("S1", "S3")])
    record.model_copy(update={"attacks": kept}).save(folder)


def test_a_run_with_fewer_attacks_is_not_shown_to_be_as_robust_nor_one_with_more_to_be_worse(before, tmp_path):
    after = later(before, tmp_path, without_attacks)
    (fewer,) = rows(before, after, "robust:2pt")
    assert fewer.outcome == Outcome.INCONCLUSIVE and fewer.interval[1] is None and "lacks attacks of the first: S" in fewer.reason
    assert command(before, after, "--fail-on", "robust:2pt") == 3
    worse_answers(before_again := later(before, tmp_path / "more", lambda _: None), 0.1, "robust")
    (more,) = rows(after, before_again, "robust:2pt")
    assert more.outcome == Outcome.INCONCLUSIVE and more.interval[0] is None and "has others than the first: S" in more.reason
    worse_answers(after, 0.5, "robust")
    assert rows(before, after, "robust:2pt")[0].outcome == Outcome.FAIL  # lost more under less


def n(sets: str, run: Path) -> int:
    data = RunRecord.load(run).data
    return data.n_clean if sets == "clean" else data.n


def test_a_better_run_is_no_regression(before, tmp_path):
    after = later(before, tmp_path, lambda folder: worse_answers(folder, 0.1, "clean"))
    (row,) = rows(after, before, "clean:1pt")
    assert row.outcome == Outcome.PASS and row.observed < 0


def test_the_twin_is_not_asked(before, tmp_path):
    def without(folder: Path) -> None:
        shutil.rmtree(folder / "answers" / TWIN)

    assert {row.outcome for row in rows(before, later(before, tmp_path, without), "clean:1pt,robust:2pt")} == {Outcome.PASS}


def test_an_engine_that_is_gone_or_failed_is_not_measured(before, tmp_path):
    def fail(folder: Path) -> None:
        record = RunRecord.load(folder)
        record.model_copy(
            update={"engines": [e.model_copy(update={"status": "crashed", "error": "signal 11"}) for e in record.engines]}
        ).save(folder)

    def leave(folder: Path) -> None:
        record = RunRecord.load(folder)
        record.model_copy(update={"engines": [e for e in record.engines if e.name != ENGINE]}).save(folder)

    for name, change, words in (("failed", fail, "signal 11"), ("gone", leave, "no engine ort-int8")):
        for row in rows(before, later(before, tmp_path / name, change), "latency:5%,memory:5%,clean:1pt,robust:2pt"):
            assert row.outcome == Outcome.NOT_MEASURED and words in row.reason, row


def changed(**parts) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        record = RunRecord.load(folder)
        update = {name: getattr(record, name).model_copy(update=values) for name, values in parts.items()}
        record.model_copy(update=update).save(folder)

    return change


def command(before: Path, after: Path, *words: str) -> int:
    return harness("compare", str(before), str(after), *words)


def test_runs_that_are_unlike_are_refused_unless_told_so(before, tmp_path, capsys):
    elsewhere = later(before, tmp_path / "device", changed(device={"name": "jetson-orin"}))
    assert command(before, elsewhere, "--fail-on", "latency:5%") == 3
    assert "their device is host (before) and jetson-orin (after). --unlike" in capsys.readouterr().err
    assert command(before, elsewhere, "--fail-on", "latency:5%", "--unlike") == 0
    assert command(before, elsewhere, "--fail-on", "robust:2pt") == 0, "answers may be compared over devices"
    other = later(before, tmp_path / "data", changed(data={"sha256": "0" * 64}))
    for words in (("clean:1pt",), ("clean:1pt", "--unlike")):
        assert command(before, other, "--fail-on", *words) == 3
        assert "their data is" in capsys.readouterr().err


def test_one_name_of_a_device_may_stand_for_other_machines(before, tmp_path, capsys):
    """`host` is every computer: a slower one is no slower release."""
    seen = {"cpu_model": "Example CPU", "isa_flags": ["avx2"], "affinity": [0, 1]}
    here = later(before, tmp_path / "here", changed(device={"observed": seen}))
    for other, words in (
        ({"cpu_model": "Another CPU"}, "Another CPU, 2 CPUs, avx2"),
        ({"isa_flags": ["avx2", "avx512_vnni"]}, "Example CPU, 2 CPUs, avx2 avx512_vnni"),
        ({"quota_cpus": 1.5}, "Example CPU, 1.5 CPUs, avx2"),
        ({"quota_cpus": 4.0, "affinity": [0]}, "Example CPU, 1 CPUs, avx2"),  # a quota above what it may run on
    ):
        there = later(before, tmp_path / words, changed(device={"observed": {**seen, **other}}))
        for limit in ("latency:5%", "memory:5%"):
            assert command(here, there, "--fail-on", limit) == 3
            said = capsys.readouterr().err
            assert "their hardware is Example CPU, 2 CPUs, avx2 (" in said and f"and {words} (" in said and "--unlike" in said
        assert command(here, there, "--fail-on", "latency:5%", "--unlike") == 0
        said = capsys.readouterr().out
        assert f": {words}): times and memory are of different hardware" in said
        assert command(here, there, "--fail-on", "robust:2pt") == 0
    capsys.readouterr()
    hostile = later(before, tmp_path / "hostile", changed(device={"observed": {**seen, "cpu_model": "Evil\x1b[31m"}}))
    command(here, hostile)
    assert "\x1b" not in capsys.readouterr().out
    assert command(here, later(here, tmp_path / "again", lambda _: None), "--fail-on", "latency:5%") == 0


def test_one_gpu_whose_clock_is_another_at_the_moment_is_the_same_hardware(before, tmp_path, capsys):
    """A state tells of the GPU its driver and its clock too: no two runs could be compared."""
    gpu = {"name": "NVIDIA H200", "driver": "570.1", "memory_bytes": 1 << 37, "sm": "9.0", "clock_mhz": 345.0, "highest_clock_mhz": 1980.0}
    told = {"observed": {"cpu_model": "Example CPU"}}
    here = later(before, tmp_path / "here", changed(device={**told, "before": {"gpu": gpu}}))
    later_on = later(before, tmp_path / "later", changed(device={**told, "before": {"gpu": {**gpu, "clock_mhz": 1980.0}}}))
    assert command(here, later_on, "--fail-on", "latency:5%") == 0
    other = later(before, tmp_path / "other", changed(device={**told, "before": {"gpu": {**gpu, "name": "NVIDIA L4"}}}))
    assert command(here, other, "--fail-on", "latency:5%") == 3
    assert "Example CPU, NVIDIA H200 (" in capsys.readouterr().err
    assert "different hardware" not in capsys.readouterr().out


def test_times_with_other_threads_are_no_regression(before, tmp_path, capsys):
    """A run with `--threads 1` is slower than one with two, and no release is."""
    slower = later(before, tmp_path, lambda folder: timed(folder, 1.8))
    changed(device={"observed": {**RunRecord.load(before).device.observed, "threads": 1}})(slower)
    assert command(before, slower, "--fail-on", "latency:5%") == 3
    assert "their setting is 2 threads (before) and 1 thread (after). --unlike" in capsys.readouterr().err
    assert command(before, slower, "--fail-on", "latency:5%", "--unlike") == 1
    assert "other numbers of threads (before: 2 threads; after: 1 thread): times and memory are of" in capsys.readouterr().out
    assert command(before, slower, "--fail-on", "artefact:5%,robust:2pt") == 0


def test_a_figure_that_grew_by_just_its_limit_passes(before, tmp_path):
    """110 / 100 - 1 is more than 0.1 in floats."""

    def sized(folder: Path, size: int) -> Path:
        record = RunRecord.load(folder)
        engines = [e.model_copy(update={"memory": e.memory.model_copy(update={"peak_bytes": size})}) for e in record.engines]
        record.model_copy(update={"engines": engines}).save(folder)
        return folder

    one, other, more = (sized(later(before, tmp_path / str(size), lambda _: None), size) for size in (100_000, 110_000, 110_001))
    assert 110_000 / 100_000 - 1 > 0.1
    assert {row.outcome for row in rows(one, other, "memory:10%")} == {Outcome.PASS}
    assert {row.outcome for row in rows(one, more, "memory:10%")} == {Outcome.FAIL}


def test_another_model_is_what_a_release_is(before, tmp_path):
    after = later(before, tmp_path, changed(model={"sha256": "0" * 64}))
    assert command(before, after, "--fail-on", "latency:5%,clean:1pt,robust:2pt") == 0


def test_exit_codes_and_the_rows_in_both_forms(before, tmp_path, capsys):
    after = later(before, tmp_path, lambda folder: timed(folder, 1.3))
    assert command(before, after, "--fail-on", "latency:5%,robust:2pt") == 1
    out = capsys.readouterr().out
    assert "## Regressions" in out and "| median latency worse in after | ort-int8, batch 1 | **FAIL** | at most 5 % |" in out
    assert command(before, after, "--fail-on", "latency:5%", "--out", str(tmp_path / "both")) == 1
    assert "Regressions" in (tmp_path / "both/report.html").read_text()
    assert command(before, after) == 0
    assert "## Regressions" not in capsys.readouterr().out.replace(out, "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("latncy:5%", "unknown figure 'latncy'. Did you mean latency"),
        ("latency", "latency has no limit; expected latency:5%"),
        ("latency:5pt", "the unit 'pt'"),
        ("robust:2%", "the unit '%'"),
        ("robust:-2pt", "at least 0.01 points"),
        ("latency:1e-300%", "at least 0.01 %"),
        ("latency:5%,latency:6%", "named twice"),
        ("", "unknown figure ''"),
    ],
)
def test_a_wrong_limit_is_one_line(text, words):
    with pytest.raises(UsageError) as error:
        parse_limits(text)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_every_figure_can_be_asked_for():
    limits = parse_limits(",".join(f"{key}:{'5 %' if change.unit.base == 'share' else '2 points'}" for key, change in CHANGES.items()))
    assert [limit.key for limit in limits] == list(CHANGES)


def test_welchs_bounds_are_scipys():
    one, other = np.array([1.0, 1.1, 0.9, 1.05]), np.array([1.2, 1.3, 1.25])
    expected = ttest_ind(other, one, equal_var=False, alternative="greater").confidence_interval(0.95).low
    assert welch_bounds(other, one, 0.95)[0] == pytest.approx(expected)
    assert welch_bounds(other[:1], one, 0.95) == (None, None)


def test_answers_that_were_swapped_are_no_figures(before, tmp_path):
    """The twin's answers in place of the engine's, as from the run of another network: nothing can be lost."""

    def swap(folder: Path) -> None:
        for cell in (folder / "answers" / TWIN).glob("*.npy"):
            shutil.copy(cell, folder / "answers" / ENGINE)

    for row in rows(before, later(before, tmp_path, swap), "clean:2pt,robust:2pt"):
        assert row.outcome == Outcome.NOT_MEASURED
        assert "was changed since the run" in row.reason
