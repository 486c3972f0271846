from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from devices.worker import environment
from devices.worker.environment import Load, describe_machine
from devices.worker.reader import Reader

JETSON = """processor\t: 0
Features\t: fp asimd evtstrm aes asimdhp cpuid asimddp uscat
CPU implementer\t: 0x41
CPU part\t: 0xd42
"""
XEON = "model name\t: Some Xeon\nflags\t\t: fpu avx avx2 avx512f avx512_vnni\n"


def tree(root: Path, **files: str) -> Reader:
    """A recorded tree with these files, `/` written as `__`."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Reader(root)


class Stats(Reader):
    """A tree whose /proc/stat reads otherwise each time."""

    def __init__(self, root: Path, *stats: str) -> None:
        super().__init__(root)
        self.stats = iter(stats)

    def text(self, path: str) -> str:
        return next(self.stats) if path == "/proc/stat" else super().text(path)


@pytest.mark.parametrize(
    ("cpuinfo", "model", "flags"),
    [
        (JETSON, "implementer 0x41 part 0xd42", ["asimd", "asimdhp", "asimddp"]),
        (XEON, "Some Xeon", ["avx", "avx2", "avx512f", "avx512_vnni"]),
    ],
)
def test_cpu_is_read_on_both_architectures(tmp_path: Path, cpuinfo: str, model: str, flags: list[str]) -> None:
    seen = describe_machine(tree(tmp_path, proc__cpuinfo=cpuinfo))
    assert (seen["cpu_model"], seen["isa_flags"]) == (model, flags)


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    seen = Load(reader=Reader(tmp_path)).describe()
    assert (seen["governor"], seen["steal_share"]) == (None, None)
    assert seen["others_share_before"] is None


def test_where_the_kernel_tells_no_extension_the_processor_is_asked(tmp_path: Path) -> None:
    assert describe_machine(Reader(tmp_path))["isa_flags"] == describe_machine(Reader("/"))["isa_flags"]


def test_steal_is_a_share_of_the_time_between(tmp_path: Path) -> None:
    reader = Stats(tmp_path, "cpu 10 0 0 80 0 0 0 10 5 0\n", "cpu 20 0 0 160 0 0 0 20 9 0\n")
    assert Load(reader=reader).describe()["steal_share"] == pytest.approx(0.1)


def test_other_programs_are_what_is_left_of_the_busy_time_without_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 ticks of all CPUs 35 are busy, of which 5 are own. Idle, iowait and steal are no work."""
    reader = Stats(tmp_path, "cpu 0 0 0 0 0 0 0 0 0 0\n", "cpu 15 5 12 50 5 1 2 10 9 9\n", "cpu 90 5 15 60 7 2 3 18 9 9\n")
    seconds = iter([1.0, 1.0 + 5 / os.sysconf("SC_CLK_TCK"), 2.0])
    monkeypatch.setattr(environment.time, "process_time", lambda: next(seconds))
    seen = Load(0.001, reader).describe()
    assert seen["others_share_before"] == pytest.approx(0.3)
    assert seen["steal_share"] == pytest.approx(0.08)


def test_a_busy_program_beside_this_one_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE) as hog:
        assert hog.stdout is not None
        hog.stdout.readline()
        seen = Load(idle_s=0.5).describe()
        hog.kill()
    assert seen["others_share_before"] > 0.5 / (os.cpu_count() or 1)


def test_without_a_sleep_nothing_is_said_of_the_time_before() -> None:
    assert Load().describe()["others_share_before"] is None


def test_this_machine_can_be_stored_as_json() -> None:
    seen = describe_machine() | Load().describe()
    assert json.loads(json.dumps(seen)) == seen
    assert seen["affinity"]
    assert seen["numpy"] == np.__version__


def test_peak_is_this_processes_own_not_its_parents() -> None:
    heavy = np.ones(200 << 17)  # 200 MiB in the parent, written to
    code = (
        "from devices.worker.environment import resident_bytes as r; import numpy as n; a = r(peak=True); "
        "n.ones(64 << 17); print(a, r(peak=True), r(peak=False))"
    )
    before, peak, now = map(int, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert before < heavy.nbytes
    assert 60 << 20 < peak - before < 80 << 20
    assert now < peak


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [
        ((), (8, 200, 800)), ((0,), (4, 100, 200)), ((0, 1), (4, 190, 400)), ((2, 3), (4, 10, 400)),
        ((0, 1, 2, 3), (8, 200, 800)), ((0, 9), (8, 200, 800)),  # one that is not told
    ],
    ids=str,
)  # fmt: skip
def test_of_a_job_that_may_use_some_cpus_their_time_counts_alone(cpus: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path) -> None:
    """A neighbour on the one CPU of a job took a 64th of the time of 64, within every limit; those on the others took it all."""
    rows = {"": (200, 592, 8), "0": (100, 96, 4), "1": (90, 110, 0), "2": (10, 190, 0), "3": (0, 196, 4)}
    stat = "".join(f"cpu{name} {busy} 0 0 {idle} 0 0 0 {steal} 0 0\n" for name, (busy, idle, steal) in rows.items()) + "intr 5\n"
    found = environment.cpu_ticks(tree(tmp_path, proc__stat=stat), cpus)
    assert found is not None and (found.steal, found.busy, found.total) == expected


def test_the_cpus_of_a_process_are_those_it_is_bound_to(tmp_path: Path) -> None:
    code = (
        "import os; from devices.worker.environment import own_cpus; from devices.worker.reader import Reader\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        f"print(len(own_cpus(Reader('/'))), len(own_cpus(Reader({str(tmp_path)!r}))))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["1", "0"]
