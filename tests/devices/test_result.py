from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from devices.result import RESULT, STATUSES, Checks, Result, Timing
from devices.rules import MEASURED, PARTS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from devices.worker.spec import FormatError

counts = st.none() | st.integers(0, 2**50)
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(0, 1e18)
texts = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=8)
values = st.dictionaries(
    texts, st.none() | st.booleans() | st.integers(-(2**60), 2**60) | finite | texts | st.lists(st.integers(0, 9)), max_size=3
)
environments = st.fixed_dictionaries(
    {}, optional={"cpu_model": texts, "cpus": st.integers(1, 999), "governor": st.none() | texts, "steal_share": finite}
)
logits = arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 3)), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)
)


def calls(n: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.int64, n, elements=st.integers(1, 10**15))


@st.composite
def timings(draw: st.DrawFn) -> Timing:
    n = draw(st.integers(1, 5))
    parts = {name: draw(calls(n)) for name in draw(st.sets(st.sampled_from(PARTS)))}
    latency = draw(calls(n))
    starts = np.concatenate([[0], np.cumsum(latency)[:-1]]).astype(np.int64) if draw(st.booleans()) else np.empty(0, np.int64)
    return Timing(latency, draw(calls(draw(st.integers(0, 3)))), draw(st.integers(1, 10**15)), draw(st.booleans()), parts, starts)


@st.composite
def results(draw: st.DrawFn) -> Result:
    status = draw(st.sampled_from(STATUSES))
    named = st.dictionaries(st.from_regex(r"[a-z0-9][a-z0-9_.+-]{0,8}", fullmatch=True), logits, max_size=2)
    checks = st.builds(Checks, st.none() | st.booleans(), positive, positive, st.booleans(), st.integers(1, 9), st.none() | st.booleans())
    return Result(
        job_sha256=draw(texts),
        status=status,
        error=None if status == "ok" else draw(texts),
        runtime_version=draw(st.none() | texts),
        options=draw(values),
        environment=draw(environments),
        simulated=draw(st.booleans()),
        load_ns=draw(counts),
        baseline_bytes=draw(counts),
        peak_bytes=draw(counts),
        outputs=draw(named) if status in MEASURED else {},
        timings=draw(st.dictionaries(st.integers(1, 100), timings(), max_size=2)) if status in MEASURED else {},
        checks=draw(checks) if status == "ok" else None,
    )


def same(left: Result, right: Result) -> bool:
    plain = {field.name for field in fields(Result)} - {"outputs", "timings"}
    return (
        all(getattr(left, name) == getattr(right, name) for name in plain)
        and left.outputs.keys() == right.outputs.keys()
        and all(
            value.tobytes() == right.outputs[name].tobytes() and value.shape == right.outputs[name].shape
            for name, value in left.outputs.items()
        )
        and left.timings.keys() == right.timings.keys()
        and all(
            np.array_equal(value.latency_ns, right.timings[batch].latency_ns)
            and np.array_equal(value.warmup_ns, right.timings[batch].warmup_ns)
            and np.array_equal(value.start_ns, right.timings[batch].start_ns)
            and (value.first_ns, value.stable, value.parts_ns.keys())
            == (right.timings[batch].first_ns, right.timings[batch].stable, right.timings[batch].parts_ns.keys())
            for batch, value in left.timings.items()
        )
    )


@settings(deadline=None)
@given(results())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, result: Result) -> None:
    folder = tmp_path_factory.mktemp("job")
    result.save(folder)
    assert same(Result.load(folder), result)


def a_result(**changes: object) -> Result:
    timing = Timing(np.array([3, 4]), np.array([9]), 20, True)
    checks = Checks(True, 0.0, 1.0, True, 3, True)
    outputs = {"clean": np.ones((2, 3), np.float32)}
    settings = {"outputs": outputs, "timings": {1: timing}, "checks": checks, "optimised_graph": "graph.onnx", **changes}
    return Result("0" * 64, "ok", **settings)  # type: ignore[arg-type]


def saved(folder: Path) -> Path:
    (folder / "graph.onnx").write_bytes(b"graph")
    a_result().save(folder)
    return folder / RESULT


def test_saving_again_replaces_the_old_result_whole(tmp_path: Path) -> None:
    saved(tmp_path)
    Result("1" * 64, "crashed", "it broke").save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [RESULT]
    again = Result.load(tmp_path)
    assert (again.status, again.outputs, again.optimised_graph) == ("crashed", {}, None)


@pytest.mark.parametrize("name", ["outputs/clean.npy", "timings/b1.npz", "graph.onnx"])
def test_a_changed_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    inside = saved(tmp_path)
    raw = bytearray((inside / name).read_bytes())
    raw[-1] ^= 1
    (inside / name).write_bytes(raw)
    with pytest.raises(FormatError, match=f"{name} changed"):
        Result.load(tmp_path)
    (inside / name).unlink()
    with pytest.raises(FormatError, match=f"{name} is missing"):
        Result.load(tmp_path)


@pytest.mark.parametrize("change", [{"schema": 1}, {"status": "fine"}, {"extra": 1}, {"outputs": 3}, {"timings": {"one": {}}}])
def test_what_this_version_does_not_know_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = saved(tmp_path) / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FormatError):
        Result.load(tmp_path)


def test_no_result_is_a_format_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot read"):
        Result.load(tmp_path)


def test_an_array_is_never_unpickled(tmp_path: Path) -> None:
    inside = saved(tmp_path)
    np.save(inside / "outputs" / "clean.npy", np.array([object()]), allow_pickle=True)
    raw = json.loads((inside / "result.json").read_text())
    from devices.worker.files import sha256_file

    raw["outputs"]["clean"]["sha256"] = sha256_file(inside / "outputs" / "clean.npy")
    (inside / "result.json").write_text(json.dumps(raw))
    with pytest.raises(FormatError, match="holds object; expected numbers"):
        Result.load(tmp_path)
