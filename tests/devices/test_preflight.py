"""What is settled before any work: the CPUs and threads of the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from devices.host import preflight as module
from devices.host.errors import DeviceError
from devices.host.preflight import preflight
from devices.host.profile import Cpu, load_profile
from devices.host.transports import Facts
from devices.worker.quota import fast_cpus
from devices.worker.reader import Reader

# Capacities as the kernel tells them, and the CPUs that are the large ones.
BOARDS = {
    "four A55 and four A76": ([530] * 4 + [1024] * 4, [4, 5, 6, 7]),
    "two A72 behind four A53": ([485] * 4 + [1024] * 2, [4, 5]),
    "one X1, three A78, four A55": ([250] * 4 + [880] * 3 + [1024], [4, 5, 6, 7]),
    "all alike": ([1024] * 4, [0, 1, 2, 3]),
    "not told": ([], [0, 1, 2]),
}


@pytest.mark.parametrize("board", BOARDS)
def test_large_cpus_are_told_from_small_ones(board: str, tmp_path: Path) -> None:
    capacities, large = BOARDS[board]
    for cpu, capacity in enumerate(capacities):
        file = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity"
        file.parent.mkdir(parents=True)
        file.write_text(f"{capacity}\n")
    assert fast_cpus(Reader(tmp_path), list(range(len(capacities) or 3))) == large


class Reached:
    """A device with such facts."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def __enter__(self) -> Reached:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def facts(self) -> Facts:
        return self._facts


@pytest.mark.parametrize(
    ("cpu", "fast", "threads", "bound"),
    [
        (Cpu(), (4, 5, 6, 7), 4, (4, 5, 6, 7)),
        (Cpu(), tuple(range(8)), 8, ()),
        (Cpu(threads=6), (4, 5, 6, 7), 6, ()),
        (Cpu(affinity=(0,)), (4, 5, 6, 7), 1, (0,)),
        (Cpu(affinity=(4, 5), threads=1), (4, 5, 6, 7), 1, (4, 5)),
    ],
)
def test_threads_are_as_many_as_the_cpus_that_the_engine_gets(
    cpu: Cpu, fast: tuple[int, ...], threads: int, bound: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Facts("aarch64", 8, None, allowed=tuple(range(8)), fast=fast)
    monkeypatch.setattr(module, "connect", lambda profile, say: Reached(facts))
    said: list[str] = []
    found = preflight(replace(load_profile("host"), cpu=cpu), said.append)
    assert (found.cpu.threads, found.cpu.affinity) == (threads, bound)
    assert any("large and small CPUs" in line for line in said) == (bool(bound) and not cpu.affinity)


def test_cpus_that_are_not_there_are_refused_before_any_work_with_those_that_are() -> None:
    host = load_profile("host")
    with pytest.raises(DeviceError, match=r"cpu\.affinity of host has CPU 9099; expected some of those that may be used there: \d"):
        preflight(replace(host, cpu=Cpu(affinity=(9099,))), lambda line: None)


@pytest.mark.parametrize(("wanted", "absent"), [(True, ("mlperf_loadgen",)), (True, ()), (False, ("mlperf_loadgen",))])
def test_a_missing_loadgen_is_said_before_any_work_where_it_is_wanted(
    wanted: bool, absent: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "connect", lambda profile, say: Reached(Facts("aarch64", 8, None, absent=absent)))
    said: list[str] = []
    found = preflight(load_profile("host"), said.append, loadgen=wanted)
    assert found.runtimes == load_profile("host").runtimes
    assert any("pip install mlcommons-loadgen" in line for line in said) == (wanted and bool(absent))
