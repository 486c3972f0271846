from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from devices import environment
from devices.environment import Load, describe_machine, resident_bytes

JETSON = """processor\t: 0
Features\t: fp asimd evtstrm aes asimdhp cpuid asimddp uscat
CPU implementer\t: 0x41
CPU part\t: 0xd42
"""
XEON = "model name\t: Some Xeon\nflags\t\t: fpu avx avx2 avx512f avx512_vnni\n"


@pytest.mark.parametrize(
    ("cpuinfo", "model", "flags"),
    [
        (JETSON, "implementer 0x41 part 0xd42", ["asimd", "asimdhp", "asimddp"]),
        (XEON, "Some Xeon", ["avx", "avx2", "avx512f", "avx512_vnni"]),
    ],
)
def test_cpu_is_read_on_both_architectures(monkeypatch: pytest.MonkeyPatch, cpuinfo: str, model: str, flags: list[str]) -> None:
    monkeypatch.setattr(environment, "_read", lambda path: cpuinfo if str(path) == "/proc/cpuinfo" else "")
    seen = describe_machine()
    assert (seen["cpu_model"], seen["isa_flags"]) == (model, flags)


def test_what_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_read", lambda path: "")
    assert resident_bytes(peak=True) is None
    seen = Load().describe()
    assert (seen["governor"], seen["steal_share"]) == (None, None)


def test_steal_is_a_share_of_the_time_between(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = iter(["cpu 10 0 0 80 0 0 0 10 5 0\n", "cpu 20 0 0 160 0 0 0 20 9 0\n"])
    monkeypatch.setattr(environment, "_read", lambda path: next(stats) if str(path) == "/proc/stat" else "")
    assert Load().describe()["steal_share"] == pytest.approx(0.1)


def test_this_machine_can_be_stored_as_json() -> None:
    seen = describe_machine() | Load().describe()
    assert json.loads(json.dumps(seen)) == seen
    assert seen["affinity"]
    assert seen["numpy"] == np.__version__


def test_peak_is_this_processes_own_not_its_parents() -> None:
    heavy = np.ones(200 << 17)  # 200 MiB in the parent, written to
    code = (
        "from devices.environment import resident_bytes as r; import numpy as n; a = r(peak=True); "
        "n.ones(64 << 17); print(a, r(peak=True), r(peak=False))"
    )
    before, peak, now = map(int, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert before < heavy.nbytes
    assert 60 << 20 < peak - before < 80 << 20
    assert now < peak
