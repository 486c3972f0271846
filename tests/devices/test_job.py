from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.worker.spec import JOB, File, FormatError, Job, LatencyPlan, Options, make_job

names = st.from_regex(r"[A-Za-z0-9][\w.+-]{0,20}", fullmatch=True)
texts = st.text(max_size=20)
counts = st.integers(1, 10**6)
seconds = st.floats(0, 1e6)
files = st.builds(File, st.from_regex(r"[\w][\w.+-]{0,20}(/[\w][\w.+-]{0,9})?", fullmatch=True), texts)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    inputs = draw(st.dictionaries(names, files, min_size=1, max_size=3))
    plan = st.builds(LatencyPlan, st.sampled_from(sorted(inputs)), st.lists(counts, max_size=4).map(tuple), seconds, seconds, seconds)
    options = st.builds(Options, texts, texts, counts, texts, st.dictionaries(texts, texts, max_size=2))
    return Job(
        flavour=draw(texts),
        runtime=draw(texts),
        artefact=draw(files),
        options=draw(options),
        inputs=inputs,
        latency=draw(plan),
        infer_batch=draw(counts),
        seed=draw(st.integers(0, 2**63)),
        silence_limit_s=draw(st.floats(0.1, 1e6)),
        device=draw(texts),
        simulated_clock=draw(st.booleans()),
    )


@settings(deadline=None)
@given(jobs())
def test_round_trip_keeps_job_and_digest(tmp_path_factory: pytest.TempPathFactory, job: Job) -> None:
    folder = tmp_path_factory.mktemp("job")
    job.save(folder)
    again = Job.load(folder)
    assert again == job
    assert again.digest == job.digest


def a_job() -> Job:
    return Job("f", "onnxruntime", File("m", "0"), Options("i", "o", 1), {"clean": File("c", "0")}, LatencyPlan("clean"))


CHANGES = [
    {"runtime": "other"},
    {"artefact": File("m", "1")},
    {"options": Options("i", "o", 2)},
    {"options": Options("i", "o", 1, session_config={"session.x64quantprecision": "1"})},
    {"inputs": {"clean": File("c", "1")}},
    {"latency": LatencyPlan("clean", batches=(1,))},
    {"seed": 1},
    {"device": "host"},
    {"simulated_clock": True},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_whatever_changes_the_figures_changes_the_digest(change: dict[str, object]) -> None:
    assert replace(a_job(), **change).digest != a_job().digest  # type: ignore[arg-type]


IMPOSSIBLE = [
    ({"options": Options("i", "o", 0)}, "threads is 0"),
    ({"infer_batch": -1}, "infer_batch is -1"),
    ({"latency": LatencyPlan("clean", batches=(1, 0))}, "batch size is 0"),
    ({"latency": LatencyPlan("clean", measure_s=float("nan"))}, "measure_s is nan"),
    ({"latency": LatencyPlan("clean", warmup_cap_s=-1)}, "warmup_cap_s is -1"),
    ({"latency": LatencyPlan("dirty")}, "times input set 'dirty'; the job has clean"),
    ({"silence_limit_s": 0}, "silence_limit_s is 0"),
    ({"inputs": {"clean": File("c", "0"), "../etc": File("c", "0")}}, "'../etc' cannot be a file name"),
]


@pytest.mark.parametrize(("change", "message"), IMPOSSIBLE)
def test_a_value_that_cannot_be_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        replace(a_job(), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("schema", [0, 1, "2", None])
def test_unknown_schema_is_refused(tmp_path: Path, schema: object) -> None:
    (tmp_path / JOB).write_text(json.dumps({**json.loads(a_job().to_json()), "schema": schema}))
    with pytest.raises(FormatError, match=r"has schema .* reads schema 4"):
        Job.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema": 2}', '{"schema": 2, "artefact": 3}', a_job().to_json().replace('"seed"', '"sead"')]
)
def test_damage_is_a_format_error(tmp_path: Path, text: str) -> None:
    (tmp_path / JOB).write_text(text)
    with pytest.raises(FormatError):
        Job.load(tmp_path)


def test_a_file_must_be_there_unchanged_and_inside(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    file = File.of(folder, "a")
    assert file.verify(folder).read_bytes() == b"one"
    for path in ("../b", "/etc/passwd", "a/../../b", "", "a\0", "x" * 300, 3):
        with pytest.raises(FormatError, match="no path of a file in this folder"):
            replace(file, path=path)  # type: ignore[arg-type]
    (folder / "link").symlink_to(tmp_path / "b")
    with pytest.raises(FormatError, match="outside"):
        replace(file, path="link").verify(folder)
    with pytest.raises(FormatError, match="missing"):
        replace(file, path="c").verify(folder)
    (folder / "a").write_bytes(b"two")
    with pytest.raises(FormatError, match="changed"):
        file.verify(folder)


@pytest.mark.parametrize(
    ("images", "came"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "float32"),
        (np.zeros((2, 4, 4), np.uint8), r"uint8 \(2, 4, 4\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), r"\(0, 4, 4, 3\)"),
    ],
)
def test_images_of_another_kind_are_refused_before_anything_is_written(tmp_path: Path, images: np.ndarray, came: str) -> None:
    with pytest.raises(FormatError, match=f"'clean' is .*{came}.*expected uint8"):
        make_job(
            tmp_path / "job",
            flavour="f",
            runtime="r",
            artefact=tmp_path / "m",
            options=Options("i", "o", 1),
            images={"clean": images},
            latency=LatencyPlan("clean"),
        )
    assert not (tmp_path / "job").exists()
