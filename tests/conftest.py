"""Fixtures that more than one folder needs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import sshd
import torch._export.utils
from hypothesis import HealthCheck, settings
from torch.onnx._internal.exporter._registration import ONNXRegistry

from harness.compute.allocator import keep_freed_memory

# On a busy machine the first example of a property takes seconds, and any may take longer than a deadline: neither is a fault.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
keep_freed_memory()  # as the program does: the suite attacks and trains in this process
# torch.onnx reads the source of its five hundred translations anew at every export, and torch.export goes through the schemas of all its
# operators for each lowering: most of what a small network's export takes.
ONNXRegistry.from_torchlib = staticmethod(cache(ONNXRegistry.from_torchlib))  # type: ignore[method-assign]
torch._export.utils._materialize_cpp_cia_ops = cache(torch._export.utils._materialize_cpp_cia_ops)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long first, the longest before all: or one of them would end alone. `slow` has the seconds, roughly."""
    items.sort(key=lambda item: -next((mark.args[0] for mark in item.iter_markers("slow")), 0))


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sshd.Board]:
    """A machine reached by SSH: this one, over loopback. Not started yet: its Python and its variables can be changed before."""
    if sshd.MISSING:
        pytest.skip(sshd.MISSING)
    made = sshd.Board(tmp_path / "board")
    monkeypatch.setenv(sshd.CONFIG, str(made.config))
    yield made
    made.stop()
