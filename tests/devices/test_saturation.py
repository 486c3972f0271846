"""Which CPUs saturate, by their extensions and by the shipped profiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sshd

from devices.host import saturation
from devices.host.preflight import preflight
from devices.host.profile import load_profile
from devices.host.saturation import may_saturate, saturates
from devices.worker.reader import ROOT


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("avx", "avx2", "fma"), True),
        (("avx2", "avx512f", "avx512bw"), True),
        (("avx2", "avx512f", "avx512_vnni"), False),
        (("avx2", "avx_vnni"), False),
        (("sse4_1",), False),
        (("sse4_1", "avx"), False),
        (("asimd",), False),
        (("asimd", "asimddp", "i8mm"), False),
        ((), True),
    ],
)
def test_avx2_without_vnni_saturates(flags: tuple[str, ...], expected: bool) -> None:
    assert saturates(flags) is expected


@pytest.mark.parametrize(
    ("device", "expected"),
    [("x86-avx2", True), ("x86-sse4", False), ("raspberry-pi-4", False), ("raspberry-pi-5", False), ("jetson-orin", False),
     ("jetson-nano", False), ("jetson-thor", False)],
)  # fmt: skip
def test_a_profile_says_it_before_the_device_is_reached(device: str, expected: bool) -> None:
    assert may_saturate(load_profile(device)) is expected


@pytest.mark.parametrize(
    ("machine", "expected"), [(None, True), ("x86_64", True), ("aarch64", False), ("armv7l", False), ("riscv64", False)]
)
def test_of_a_device_that_declares_nothing_the_machine_is_asked(machine: str | None, expected: bool) -> None:
    assert may_saturate(replace(load_profile("host"), transport="ssh", machine=machine)) is expected


@pytest.mark.parametrize(("flags", "expected"), [(["avx2"], True), (["avx2", "avx_vnni"], False), (["asimd"], False)])
def test_of_this_computer_the_cpu_is_asked(flags: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saturation, "describe_machine", lambda: {"isa_flags": flags})
    assert may_saturate(load_profile("host")) is expected


@pytest.mark.parametrize(
    ("flags", "expected"), [("avx avx2 fma", True), ("avx avx2 fma avx512f avx512_vnni", False), ("avx avx2 fma avx_vnni", False)]
)
def test_once_a_board_is_reached_its_own_cpu_is_asked(board: sshd.Board, tmp_path: Path, flags: str, expected: bool) -> None:
    """The profile declares nothing of the CPU; the board's /proc/cpuinfo is a recorded one."""
    (tmp_path / "recorded" / "proc").mkdir(parents=True)
    (tmp_path / "recorded" / "proc" / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: a board\nflags\t\t: {flags}\n")
    board.variables[ROOT] = str(tmp_path / "recorded")
    board.start()
    declared = board.profile()
    assert may_saturate(declared), "nothing is known before it is reached"
    reached = preflight(declared, lambda line: None)
    assert (reached.isa_flags, may_saturate(reached)) == (tuple(flags.split()), expected)
