"""The whole path on the null device: exact, in seconds; resumed after kill -9; an engine's failure is a result."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from nearest import make_nearest

from harness.errors import UntrustedError, UsageError
from harness.records import RunRecord, Step, Verdict
from harness.settings import Settings
from harness.spine import bench, resume

pytestmark = pytest.mark.slow(60)

SCHEMA = Path(__file__).parents[2] / "reports/record.schema.json"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    model, data = make_nearest(tmp_path_factory.mktemp("nearest"))
    return Settings(
        model=str(model), data=str(data), eps="4/255", device="null", attacks=("fgsm", "pgd-5"), samples=24, batches=(1, 4), threads=1
    )


@pytest.fixture(scope="module")
def finished(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    folder = tmp_path_factory.mktemp("bench") / "run"
    return folder, bench(settings, folder, ["harness", "bench"])


def comparable(folder: Path) -> dict[str, Any]:
    """The record without what may differ between two runs of the same thing: when, by which words, under which load."""
    raw = json.loads((folder / "record.json").read_text())
    for key in ("created", "command", "environment"):
        raw.pop(key)
    raw["device"].pop("observed")
    return raw


def test_a_run_leaves_everything_the_design_names(finished: tuple[Path, RunRecord]) -> None:
    folder, record = finished
    names = {p.name for p in folder.iterdir()}
    assert {"record.json", "samples.parquet", "adversarial", "artefacts", "timings", "report.html", "report.md", "log.txt"} <= names
    assert "jobs" not in names
    assert RunRecord.load(folder) == record
    assert record.status is Step.FINISHED
    jsonschema.validate(json.loads((folder / "record.json").read_text()), json.loads(SCHEMA.read_text()))


def test_the_schema_in_the_repository_is_that_of_the_code() -> None:
    assert json.loads(SCHEMA.read_text()) == RunRecord.model_json_schema(by_alias=True), "run: make schema"


def test_the_null_device_is_marked_synthetic_everywhere(finished: tuple[Path, RunRecord]) -> None:
    folder, record = finished
    assert record.device.synthetic
    assert all("made up" in engine.warnings[0] for engine in record.engines)
    for report in ("report.html", "report.md"):
        assert "synthetic" in (folder / report).read_text().lower()


def test_two_runs_of_the_same_thing_are_equal(settings: Settings, finished: tuple[Path, RunRecord], tmp_path: Path) -> None:
    bench(settings, tmp_path / "again", ["harness"])
    assert comparable(tmp_path / "again") == comparable(finished[0])


def test_counts_can_be_made_again_from_the_samples(finished: tuple[Path, RunRecord]) -> None:
    folder, record = finished
    table = pd.read_parquet(folder / "samples.parquet")
    clean = table[table.source == "clean"]
    for engine in record.engines:
        assert engine.clean is not None
        mine = clean[clean.engine == engine.name]
        assert (mine.label == mine.engine_prediction).sum() == engine.clean.correct
        assert len(mine) == engine.clean.n == record.data.n_clean == 128
    right = clean[clean.twin_prediction == clean.label].groupby("engine")["index"].agg(set)
    for t in record.transfer:
        made_on = (table.source == t.source) & (table.target == t.target) & (table.attack == t.attack) & (table.eps == t.eps_exact)
        rows = table[(table.engine == t.engine) & made_on]
        assert len(rows) == t.n <= 24
        twin = rows.index.size and ((rows.twin_prediction == rows.label) & rows["index"].isin(right[t.engine])).mean()
        assert twin == pytest.approx(t.twin_accuracy)
        assert rows.linf.max() <= t.eps + 1e-6


def test_the_claim_is_about_the_worst_case_of_every_gradient_attack(finished: tuple[Path, RunRecord]) -> None:
    _, record = finished
    first = next(a for a in record.attacks if a.source == "S1")
    whole = first.target_accuracy * first.n / 24  # of the images that anyone had right, the twin keeps no more than these
    assert [c.engine for c in record.claims] == ["ort-int8", "onnx-fp32"], "the control comes last"
    for claim in record.claims:
        assert claim.twin_robust is not None
        assert claim.twin_robust.accuracy <= whole + 1e-9
        assert claim.n == 24
    assert {claim.engine: claim.sources for claim in record.claims} == {"ort-int8": ["S1", "S3", "S4"], "onnx-fp32": ["S1", "S4"]}


def test_every_image_that_was_replayed_is_stored(finished: tuple[Path, RunRecord]) -> None:
    folder, record = finished
    clean = np.load(folder / "adversarial/clean.npz")
    place = {int(index): row for row, index in enumerate(clean["index"])}
    for attack in record.attacks:
        stored = np.load(folder / attack.file)
        assert stored["images"].dtype == np.uint8 and len(stored["images"]) == attack.n
        change = np.abs(stored["images"].astype(int) - clean["images"][[place[int(i)] for i in stored["index"]]])
        assert change.max(initial=0) <= round(attack.eps * 255)


def start(*words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness.cli", "bench", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the first artefact is there": lambda f: any((f / "artefacts").glob("*.json")),
    "the first engine is done": lambda f: (f / "measured/onnx-fp32/facts.json").exists(),
    "two sets are done": lambda f: len(list((f / "adversarial").glob("S1-*.npz"))) >= 2,
}  # in the order in which a run comes to them


def killed_when(there: Callable[[Path], bool], folder: Path, *words: str) -> dict[Path, int]:
    """Start a bench and kill it at that moment. What was finished by then, and when it was made."""
    process = start(*words)
    deadline = time.monotonic() + 300
    while not there(folder) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.poll() is None, "it ended before it could be killed"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = [*folder.glob("adversarial/S*.npz"), *(p for p in folder.glob("artefacts/*.onnx") if p.with_suffix(".json").exists())]
    return {path: path.stat().st_mtime_ns for path in finished}


def test_kill_9_at_every_stage_then_resume_gives_the_same_record(
    settings: Settings, finished: tuple[Path, RunRecord], tmp_path: Path
) -> None:
    subject = ("--model", settings.model, "--data", settings.data, "--eps", "4/255", "--device", "null", "--threads", "1")
    options = (*subject, "--attack", "fgsm", "--attack", "pgd-5", "--samples", "24", "--batch", "1", "--batch", "4")
    folder = tmp_path / "run"
    kept: dict[Path, int] = {}
    for moment, there in MOMENTS.items():
        words = ["--resume", str(folder)] if kept else [*options, "--out", str(folder)]
        now = killed_when(there, folder, *words)
        assert now and now.keys() >= kept.keys(), moment
        kept |= now

    resume(folder)

    assert comparable(folder) == comparable(finished[0])
    for path, before in kept.items():
        assert path.stat().st_mtime_ns == before, f"{path.name} was made again"
    for path in sorted(finished[0].glob("adversarial/*.npz")):
        assert (folder / "adversarial" / path.name).exists()
    assert not list(folder.glob("adversarial/*.parts"))


def test_resuming_a_finished_run_only_renders(finished: tuple[Path, RunRecord]) -> None:
    folder, record = finished
    (folder / "report.html").unlink()
    assert resume(folder) == record
    assert (folder / "report.html").exists()


def test_a_changed_model_or_data_set_is_not_resumed(finished: tuple[Path, RunRecord], tmp_path: Path) -> None:
    record = finished[1]
    record.model_copy(update={"status": Step.STARTED, "data": record.data.model_copy(update={"sha256": "0" * 64})}).save(tmp_path)
    with pytest.raises(UntrustedError, match="data changed"):
        resume(tmp_path)


def test_an_engine_that_crashes_is_a_result_and_the_other_goes_on(settings: Settings, tmp_path: Path) -> None:
    dying = f"exec:{sys.executable} -c 'import os; os.abort()'"
    record = bench(settings.model_copy(update={"flavours": ("onnx-fp32", dying)}), tmp_path / "run", ["harness"])
    assert [e.status for e in record.engines] == ["ok", "crashed"]
    assert [c.verdict for c in record.claims if c.engine != "onnx-fp32"] == [Verdict.ENGINE_FAILED]
    assert record.verdict is Verdict.ENGINE_FAILED
    assert record.verdict.exit_code == 4
    assert "SIGABRT" in (tmp_path / "run/report.md").read_text()


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    from harness.run import RunFolder

    with RunFolder(tmp_path), pytest.raises(UsageError, match="another harness"), RunFolder(tmp_path):
        pass


def test_a_bench_without_attacks_measures_and_claims_nothing(settings: Settings, tmp_path: Path) -> None:
    record = bench(settings.model_copy(update={"attacks": (), "flavours": ("onnx-fp32",)}), tmp_path / "run", ["harness"])
    assert record.claims == []
    assert record.verdict is None
    assert record.engines[0].latency.keys() == {"1", "4"}


def test_a_tier_that_shows_every_model_ends_where_no_image_is_left(settings: Settings, tmp_path: Path) -> None:
    """Every image is broken at once, so later sets hold none; models between twin and engine are shown them all the same."""
    few = {"tier": "bench", "eps": "32/255", "attacks": ("fgsm",), "samples": 8, "batches": (1,)}
    record = bench(settings.model_copy(update=few), tmp_path / "run", ["harness"])
    assert record.status is Step.FINISHED
    assert any(attack.n == 0 for attack in record.attacks), "a test that shows nothing"
    assert record.decompositions
