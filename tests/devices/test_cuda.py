"""The CUDA driver's calls: a small C library in its place takes and gives what NVIDIA's header says, with pointers of 64 bits."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import numpy as np
import pytest

from devices.worker import cuda
from devices.worker.cuda import Buffer, Cuda, DriverError


@pytest.fixture
def gpu(standin_driver: Path, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    monkeypatch.setattr(cuda, "LIBRARY", str(standin_driver))
    return Cuda()


def test_numbers_go_there_and_come_back(gpu: Cuda) -> None:
    sent, fetched = Buffer(gpu, 1000), Buffer(gpu, 1000)
    assert sent.device > 1 << 32, "an address that a 32-bit argument would cut"
    values = np.random.default_rng(0).random(600, np.float32)
    sent.host[:600], fetched.host[:] = values, -1
    gpu.send(sent, 600)
    fetched.device, kept = sent.device, fetched.device
    gpu.fetch(fetched, 600)
    gpu.wait()
    fetched.device = kept
    assert np.array_equal(fetched.host[:600], values)
    assert (fetched.host[600:] == -1).all()


def test_everything_that_was_taken_is_given_back(gpu: Cuda, standin_driver: Path) -> None:
    live = ctypes.CDLL(str(standin_driver)).standin_live
    before = live()
    buffer, event = Buffer(gpu, 10), gpu.event()
    assert live() == before + 3
    buffer.free()
    gpu.drop(event)
    gpu.close()
    assert live() == before - 2  # the stream and the context too


def test_events_measure_what_lies_between_them(gpu: Cuda) -> None:
    start, end = gpu.event(), gpu.event()
    gpu.record(start)
    time.sleep(0.02)
    gpu.record(end)
    gpu.wait()
    assert 20_000_000 <= gpu.elapsed_ns(start, end) < 500_000_000


def test_it_says_what_the_gpu_is(gpu: Cuda) -> None:
    assert gpu.describe() == {"gpu": "Stand-in GPU", "compute_capability": "8.7", "cuda_driver": "12.6"}
    assert gpu.free_bytes() == 5 << 30


def test_an_error_comes_in_the_drivers_own_words(gpu: Cuda) -> None:
    with pytest.raises(DriverError, match=r"cuEventElapsedTime: invalid resource handle \(CUDA error 400\)"):
        gpu.elapsed_ns(gpu.event(), gpu.event())


def test_a_driver_without_a_gpu_says_so(standin_driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", str(standin_driver))
    monkeypatch.setenv("STANDIN_NO_GPU", "1")
    with pytest.raises(DriverError, match="no CUDA-capable device is detected"):
        Cuda()


def test_without_a_driver_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", "libcuda-that-nobody-has.so.1")
    with pytest.raises(DriverError, match="there is no NVIDIA driver"):
        Cuda()
