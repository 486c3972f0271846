from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from devices.worker.spec import FormatError
from devices.result import RESULT, STATUSES, Checks, Result, Timing

counts = st.none() | st.integers(0, 2**62)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.integers() | finite | st.text(max_size=8) | st.lists(st.integers()), max_size=3
)
calls = arrays(np.int64, st.integers(0, 5), elements=st.integers(0, 2**62))
logits = arrays(np.float32, st.tuples(st.integers(0, 3), st.integers(1, 3)), elements=st.floats(width=32))
results = st.builds(
    Result,
    job_sha256=st.text(max_size=8),
    status=st.sampled_from(STATUSES),
    error=st.none() | st.text(max_size=20),
    runtime_version=st.none() | st.text(max_size=8),
    options=values,
    environment=values,
    simulated=st.booleans(),
    load_ns=counts,
    baseline_bytes=counts,
    peak_bytes=counts,
    outputs=st.dictionaries(st.from_regex(r"[a-zA-Z0-9][\w.+-]{0,8}", fullmatch=True).map(str.lower), logits, max_size=2),
    timings=st.dictionaries(st.integers(1, 100), st.builds(Timing, calls, calls, st.integers(0, 2**62), st.booleans()), max_size=2),
    checks=st.none() | st.builds(Checks, st.booleans(), finite, finite, st.booleans(), st.integers(1, 9), st.none() | st.booleans()),
    optimised_graph=st.none(),
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
            and (value.first_ns, value.stable) == (right.timings[batch].first_ns, right.timings[batch].stable)
            for batch, value in left.timings.items()
        )
    )


@settings(deadline=None)
@given(results)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, result: Result) -> None:
    folder = tmp_path_factory.mktemp("job")
    result.save(folder)
    assert same(Result.load(folder), result)


def a_result(**changes: object) -> Result:
    timing = Timing(np.array([3, 4]), np.array([9]), 20, True)
    settings = {"outputs": {"clean": np.ones((2, 3), np.float32)}, "timings": {1: timing}, "optimised_graph": "graph.onnx", **changes}
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
    with pytest.raises(FormatError, match="allow_pickle=False"):
        Result.load(tmp_path)
