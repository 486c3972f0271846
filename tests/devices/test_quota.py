"""The CPU quota, read below a recorded root in every form that kernels and containers have, and from a real control group."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.worker.quota import Quota, read_quota, usable_cpus
from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry import load

V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"
STAT = "nr_periods 549\nnr_throttled 542\nthrottled_usec 27000000\n"
FIRST = "nr_periods 10\nnr_throttled 4\nthrottled_time 123\n"

CASES: dict[str, tuple[str, dict[str, str], Quota | None]] = {
    "container, version 2": ("0::/", {f"{V2}/cpu.max": "50000 100000", f"{V2}/cpu.stat": STAT}, Quota(0.5, 549, 542)),
    "below a limited slice": (
        "0::/a.slice/b.service",
        {f"{V2}/a.slice/cpu.max": "150000 100000", f"{V2}/a.slice/cpu.stat": STAT, f"{V2}/a.slice/b.service/cpu.max": "max 100000"},
        Quota(1.5, 549, 542),
    ),
    "two limits": (
        "0::/a/b",
        {f"{V2}/a/cpu.max": "400000 100000", f"{V2}/a/b/cpu.max": "25000 50000", f"{V2}/a/b/cpu.stat": STAT},
        Quota(0.5, 549, 542),
    ),
    "no limit": ("0::/", {f"{V2}/cpu.max": "max 100000"}, Quota()),
    "the root has no file": ("0::/", {}, Quota()),
    "outside the namespace": ("0::/../../other", {f"{V2}/cpu.max": "50000 100000"}, Quota(0.5)),
    "version 1": (
        "4:cpu,cpuacct:/docker/0123\n0::/",
        {f"{V1}/cpu.cfs_quota_us": "200000", f"{V1}/cpu.cfs_period_us": "100000", f"{V1}/cpu.stat": FIRST},
        Quota(2.0, 10, 4),
    ),
    "version 1, no limit": (
        "4:cpu:/",
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
        Quota(),
    ),
    "nonsense": ("0::/\nx\n::::\n", {f"{V2}/cpu.max": "50000 0", f"{V2}/cpu.stat": "nr_periods\n\xff"}, Quota()),
    "no groups": ("", {f"{V2}/cpu.max": "50000 100000"}, None),
}


def plant(root: Path, groups: str, files: dict[str, str]) -> Reader:
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Reader(root)


def test_a_second_way_to_the_same_groups_counts_nothing_twice(tmp_path: Path) -> None:
    """Version 1 mounts `cpu,cpuacct`, and `cpu` is a link to it."""
    limit = {f"{V1}/cpu.cfs_quota_us": "50000", f"{V1}/cpu.cfs_period_us": "100000", f"{V1}/cpu.stat": FIRST}
    reader = plant(tmp_path, "4:cpu,cpuacct:/", limit)
    (tmp_path / V1).with_name("cpu").symlink_to("cpu,cpuacct")
    assert read_quota(reader) == Quota(0.5, 10, 4)


@pytest.mark.parametrize("case", CASES)
def test_the_quota_is_that_of_the_tightest_group_on_the_way_to_the_root(case: str, tmp_path: Path) -> None:
    groups, files, expected = CASES[case]
    assert read_quota(plant(tmp_path, groups, files)) == expected


@pytest.mark.parametrize(
    ("limit", "threads"), [("50000 100000", 1), ("100000 100000", 1), ("199999 100000", 1), ("200000 100000", 2), ("max 100000", 99)]
)
def test_no_more_threads_are_used_than_the_quota_has_cpus(
    limit: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(99)))
    assert usable_cpus(plant(tmp_path, "0::/", {f"{V2}/cpu.max": limit})) == threads


def test_the_quota_is_sampled_beside_the_load(tmp_path: Path) -> None:
    stat = {"proc/stat": "cpu  1 2 3 4 5 6 7 8 0 0\n"}
    sample = load.open_source(plant(tmp_path, "0::/", {**stat, f"{V2}/cpu.max": "50000 100000", f"{V2}/cpu.stat": STAT}), Watch()).sample()
    assert {name: value for name, value in sample.items() if name.startswith("quota:")} == {
        "quota:cpus": 0.5,
        "quota:periods": 549.0,
        "quota:throttled": 542.0,
    }


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of a twentieth of a CPU, made for this test: less than a busy machine gives."""
    for root, limit in ((Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us"), (Path("/sys/fs/cgroup"), "cpu.max")):
        folder = root / f"edge-harness-test-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / limit).write_text("5000" if limit == "cpu.cfs_quota_us" else "5000 100000")
        except OSError:
            if folder.is_dir():
                folder.rmdir()
            continue
        yield folder
        folder.rmdir()
        return
    pytest.skip("no control group can be made here")


def test_a_real_group_is_seen_with_its_throttled_periods(group: Path) -> None:
    code = (
        "import json, os, sys, time\n"
        f"open('{group}/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "from devices.worker.quota import read_quota, usable_cpus\n"
        "from devices.worker.reader import Reader\n"
        "stop = time.monotonic() + 1.5\n"
        "while time.monotonic() < stop: pass\n"
        "quota = read_quota(Reader('/'))\n"
        "print(json.dumps([quota.cpus, quota.periods, quota.throttled, usable_cpus()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cpus, periods, throttled, threads = json.loads(done.stdout)
    assert (cpus, threads) == (0.05, 1)
    assert 3 <= throttled <= periods
