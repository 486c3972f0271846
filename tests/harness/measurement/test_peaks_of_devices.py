"""Which peaks a roofline rests on: those measured in the run, or the profile's for the unit and power mode that count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devices.host.profile import Peak, Power, load_profile
from harness.measurement.peaks import declared_peaks, measured_peaks
from harness.measurement.roofline import Work, floor

ORIN = load_profile("jetson-orin")


def test_the_best_that_any_worker_saw_counts() -> None:
    seen = [
        {"operations_per_s": {"fp32": 5.0, "int8": 9.0}, "bytes_per_s": 3.0, "cache_bytes": 7},
        {},
        {"operations_per_s": {"fp32": 6.0, "int8": 8.0}, "bytes_per_s": 2.0, "cache_bytes": 7},
    ]
    found = measured_peaks(seen)
    assert found is not None
    assert (found.operations_per_s, found.bytes_per_s, found.cache_bytes) == ({"fp32": 6.0, "int8": 9.0}, 3.0, 7)
    assert measured_peaks([{}, {}]) is None


def test_a_profile_answers_for_the_unit_of_the_runtime_in_its_required_power_mode() -> None:
    gpu = declared_peaks(ORIN, "tensorrt")
    assert gpu is not None
    assert gpu.operations_per_s["int8-sparse"] == pytest.approx(171e12)
    assert gpu.bytes_per_s == pytest.approx(204.8e9)
    assert "MAXN" in gpu.source
    slow = declared_peaks(replace(ORIN, power=replace(ORIN.power, required="MODE_15W")), "tensorrt")
    assert slow is not None
    assert slow.operations_per_s["int8-sparse"] == pytest.approx(14e12)
    assert slow.bytes_per_s is None, "nothing is declared of the memory in that mode"


def test_a_cpu_is_not_judged_by_its_gpus_peaks() -> None:
    assert declared_peaks(ORIN, "onnxruntime") is None


def test_resnet50_on_orin_by_hand() -> None:
    """4.09 GMACs of INT8 at 85.5 TOPS; 25.6 MB of weights less 8 MiB of caches at 204.8 GB/s: memory sets the floor at batch 1."""
    peaks = declared_peaks(ORIN, "tensorrt")
    assert peaks is not None
    one = floor(Work(4_090_000_000, 25_600_000, (3, 224, 224), 1000), peaks, 1, "int8")
    assert one is not None
    assert one.compute_ns == pytest.approx(2 * 4.09e9 / 85.5e12 * 1e9)
    assert one.memory_ns == pytest.approx((25_600_000 + 4 * (3 * 224 * 224 + 1000) - 8 * 2**20) / 204.8)
    assert max(one.compute_ns, one.memory_ns) == one.ns


def test_a_peak_without_a_power_mode_holds_in_any() -> None:
    profile = replace(ORIN, power=Power(), peaks=(Peak("gpu", "a data sheet", tops={"int8": 2.0}),))
    found = declared_peaks(profile, "tensorrt")
    assert found is not None
    assert found.operations_per_s == {"int8": 2e12}
    assert found.source == "declared: a data sheet"
