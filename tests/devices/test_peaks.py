"""The processor's measured peaks: from a hand-written ONNX file that means what it says, and high enough to be a bound."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from devices.worker.peaks import _model, cache_bytes, cpu_peaks

UINT8, INT8, INT32, FLOAT = 2, 3, 6, 1
SIZE = 48


@pytest.mark.parametrize(("operator", "left", "right", "out"), [("MatMul", FLOAT, FLOAT, FLOAT), ("MatMulInteger", UINT8, INT8, INT32)])
def test_the_hand_written_file_is_valid_onnx_and_multiplies(operator: str, left: int, right: int, out: int) -> None:
    dtype = onnx.helper.tensor_dtype_to_np_dtype
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 100, (SIZE, SIZE)).astype(dtype(kind)) for kind in (left, right))
    model = _model(operator, left, right, out, b)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    (c,) = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"a": a})
    assert c.dtype == dtype(out)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b.astype(np.float64), rtol=1e-4)


def test_every_peak_is_measured() -> None:
    peaks = cpu_peaks(1, seconds=0.05)
    assert set(peaks["operations_per_s"]) == {"fp32", "int8"}
    assert min(peaks["operations_per_s"].values()) > 1e8
    assert peaks["bytes_per_s"] > 1e8
    assert peaks["cache_bytes"] == cache_bytes()
