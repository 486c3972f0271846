"""What this processor can reach at most, measured for the roofline: arithmetic through onnxruntime's own matrix product, memory by reading.

An estimate from below (a better kernel may exist) that takes about a second. onnxruntime, numpy and the standard library, Python >= 3.10.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 0.2  # for each measurement
SIZES = (256, 512)  # rows, columns and depth of the matrix products: large enough to hide the call, small enough for the caches
READ_BYTES = 64 << 20

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # onnx.TensorProto.DataType
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def cpu_peaks(threads: int, seconds: float = SECONDS) -> dict[str, Any]:
    """Measure with as many threads as the engine has, each figure for `seconds`.

    Returns:
        `operations_per_s`: by arithmetic, fp32 and int8; a multiply-accumulate is two operations. `bytes_per_s`: read from memory.
        `cache_bytes`: of the largest cache, None where the kernel does not say.
    """
    return {
        "operations_per_s": {name: _operations_per_s(name, threads, seconds) for name in ("fp32", "int8")},
        "bytes_per_s": READ_BYTES / _fastest(_reading(threads), seconds),
        "cache_bytes": cache_bytes(),
    }


def cache_bytes() -> int | None:
    """Size of the largest cache that the first CPU uses; it may be shared."""
    sizes = [re.fullmatch(r"(\d+)([KMG]?)\s*", path.read_text(encoding="utf-8")) for path in _CACHES.glob("index*/size")]
    return max((int(size[1]) * _UNITS[size[2]] for size in sizes if size), default=None)


def _fastest(call: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest call: other work on the machine only ever adds time."""
    best, stop = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < stop or best == float("inf"):
        call()
        best = min(best, time.perf_counter() - start)
    return best


def _reading(threads: int) -> Callable[[], object]:
    """Read `READ_BYTES` with all threads. `max` is vectorised and lets go of the interpreter's lock."""
    parts = np.array_split(np.ones(READ_BYTES // 4, np.float32), threads)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.max, parts))


def _operations_per_s(arithmetic: str, threads: int, seconds: float) -> float:
    return max(2 * size**3 / _fastest(_product(arithmetic, threads, size), seconds) for size in SIZES)


def _product(arithmetic: str, threads: int, size: int) -> Callable[[], object]:
    """One square matrix product in onnxruntime, its second matrix constant as a layer's weights are."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    random = np.random.default_rng(0)
    if arithmetic == "int8":
        left = random.integers(0, 256, (size, size), np.uint8)
        model = _model("MatMulInteger", _UINT8, _INT8, _INT32, random.integers(-64, 64, (size, size), np.int8))
    else:
        left = random.random((size, size), np.float32)
        model = _model("MatMul", _FLOAT, _FLOAT, _FLOAT, random.random((size, size), np.float32))
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": left})


def _model(operator: str, left: int, right: int, out: int, constant: np.ndarray[Any, Any]) -> bytes:
    """An ONNX file of one product c = a x b of square matrices with constant b, written by hand: the device need not have the onnx package.

    Field numbers from onnx.proto: ModelProto {ir_version 1, graph 7, opset_import 8}, GraphProto {node 1, name 2, initializer 5,
    input 11, output 12}, NodeProto {input 1, output 2, op_type 4}, TensorProto {dims 1, data_type 2, name 8, raw_data 9}.
    """
    dims = b"".join(_number(1, size) for size in constant.shape)
    weight = dims + _number(2, right) + _bytes(8, b"b") + _bytes(9, constant.tobytes())
    node = _bytes(1, b"a") + _bytes(1, b"b") + _bytes(2, b"c") + _bytes(4, operator.encode())
    values = _bytes(11, _value(b"a", left, constant.shape)) + _bytes(12, _value(b"c", out, constant.shape))
    graph = _bytes(1, node) + _bytes(2, b"peak") + _bytes(5, weight) + values
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 13))


def _value(name: bytes, kind: int, sizes: tuple[int, ...]) -> bytes:
    """ValueInfoProto {name 1, type 2 {tensor_type 1 {elem_type 1, shape 2 {dim 1 {dim_value 1}}}}}."""
    shape = b"".join(_bytes(1, _number(1, size)) for size in sizes)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, shape)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Protocol Buffers' base-128 number: seven bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
