"""The roofline against figures worked out by hand, and its promise: a floor, never above what can be reached."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.measurement.roofline import Peaks, Work, floor, peak_arithmetic

WORK = Work(macs=500_000_000, weights=10_000_000, input_shape=(3, 32, 32), classes=10)
PEAKS = Peaks(
    {"fp32": 1e12, "tf32": 4e12, "fp16": 8e12, "int8": 16e12, "int8-sparse": 32e12, "fp16-sparse": 16e12}, 100e9, 4 << 20, "by hand"
)


@pytest.mark.parametrize(
    ("precision", "sparse", "arithmetic", "compute_ns"),
    [
        ("fp32", False, "tf32", 250_000),
        ("fp16", False, "fp16", 125_000),
        ("int8", False, "int8", 62_500),
        ("int8", True, "int8-sparse", 31_250),
    ],
)
def test_arithmetic_by_hand(precision: str, sparse: bool, arithmetic: str, compute_ns: float) -> None:
    """500 million MACs are 10^9 operations."""
    found = floor(WORK, replace(PEAKS, bytes_per_s=None), 1, precision, sparse)
    assert found is not None
    assert found.ns == pytest.approx(compute_ns)
    assert found.bound == "arithmetic"
    assert peak_arithmetic(PEAKS, precision, sparse) == (arithmetic, PEAKS.operations_per_s[arithmetic])


def test_memory_by_hand() -> None:
    """40 MB of float weights and 12,328 bytes in and out, less 4 MiB of cache, at 100 GB/s."""
    found = floor(replace(WORK, macs=1), PEAKS, 1, "fp32")
    assert found is not None
    assert found.memory_ns == pytest.approx((40_000_000 + 4 * (3 * 32 * 32 + 10) - (4 << 20)) / 100)
    assert found.bound == "memory"


def test_what_fits_into_the_cache_costs_nothing_and_an_unknown_cache_sets_no_floor() -> None:
    small = replace(WORK, weights=1000)
    for peaks, work in ((PEAKS, small), (replace(PEAKS, cache_bytes=None), WORK), (replace(PEAKS, bytes_per_s=None), WORK)):
        found = floor(work, peaks, 1, "int8")
        assert found is not None
        assert found.memory_ns == 0


def test_an_integer_engine_may_run_in_float_where_that_is_faster() -> None:
    slow_integers = replace(PEAKS, operations_per_s={"fp32": 1e12, "int8": 0.5e12})
    assert peak_arithmetic(slow_integers, "int8") == ("fp32", 1e12)


def test_without_a_figure_there_is_no_floor() -> None:
    assert floor(WORK, replace(PEAKS, operations_per_s={"int8": 1e12}), 1, "fp32") is None


@given(st.integers(1, 512), st.sampled_from(["fp32", "fp16", "int8"]), st.booleans(), st.floats(1.0, 4.0))
def test_more_work_never_lowers_it_and_a_faster_processor_never_raises_it(batch: int, precision: str, sparse: bool, faster: float) -> None:
    one, more = (floor(WORK, PEAKS, size, precision, sparse) for size in (batch, batch + 1))
    better = replace(PEAKS, operations_per_s={k: v * faster for k, v in PEAKS.operations_per_s.items()}, bytes_per_s=100e9 * faster)
    quick = floor(WORK, better, batch, precision, sparse)
    assert one is not None
    assert more is not None
    assert quick is not None
    assert more.ns >= one.ns >= quick.ns * (1 - 1e-12)
