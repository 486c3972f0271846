"""The state of a recorded board, and a profile held against it with one fault planted at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devices.host.compare import mismatches
from devices.host.profile import Cpu, Identity, load_profile
from devices.worker.observed import locked, observe, parse_clocks, parse_cuda, parse_power_mode, parse_release
from devices.worker.reader import Reader
from devices.worker.spec import Watch

HERE = Path(__file__).parent / "fixtures"
ORIN = load_profile("jetson-orin")
STATE = observe(Reader(HERE / "jetson-orin"), ORIN.watch)
SUPER = {**STATE, "power_mode": "MAXN_SUPER"}
UNLOCKED = parse_clocks((HERE / "texts/jetson_clocks-50w.txt").read_text())


def test_a_recorded_board_is_read() -> None:
    told = {name: STATE[name] for name in ("power_mode", "l4t", "jetpack", "cuda", "clocks_locked", "isa_flags", "model")}
    assert told == {
        "power_mode": "MAXN",
        "l4t": "36.4.3",
        "jetpack": "6.2+b77",
        "cuda": "12.6.11",
        "clocks_locked": True,
        "isa_flags": ["asimd", "asimdhp", "asimddp"],
        "model": "NVIDIA Jetson AGX Orin Developer Kit",
    }
    assert STATE["memory_bytes"] == 64_349_204 * 1024
    assert STATE["clocks_hz"]["gpu"] == [1_300_500_000.0] * 2
    assert len(STATE["clocks_hz"]) == 13
    assert STATE["recorded_from"].endswith("jetson-orin"), "it says that it is not the device itself"


def test_without_the_commands_the_files_still_tell_of_the_clocks() -> None:
    state = observe(Reader(HERE / "jetson-orin"), Watch())
    assert (state["power_mode"], state["clocks_locked"], state["clocks_hz"]) == (None, True, STATE["clocks_hz"])


def test_this_machine_is_read_without_an_error() -> None:
    state = observe(Reader("/"), Watch(power_query=("no-such-command",)))
    assert state["recorded_from"] is None
    assert state["memory_bytes"] > 1 << 28
    assert state["power_mode"] is None


@pytest.mark.parametrize(
    ("shown", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN"),
        ("NV Fan Mode:cool\nNV Power Mode: MODE_30W_4CORE\n5\n", "MODE_30W_4CORE"),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN_SUPER\n2", "MAXN_SUPER"),
        ("NVPM VERB: parsing done for /etc/nvpmodel.conf\nNVPM VERB: Current mode: NV Power Mode: 40W\n4\nNVPM VERB: PARAM CPU", "40W"),
        ("NV Power Mode: \n-1\n", None),
        ("NV Power Mode:\n-1\n", None),
        ("", None),
    ],
)
def test_power_modes(shown: str, mode: str | None) -> None:
    assert parse_power_mode(shown) == mode


VERBOSE = """NVPM VERB: Config file: /etc/nvpmodel.conf
NVPM VERB: Current mode: NV Power Mode: 40W
4
NVPM VERB: PARAM CPU_A78_0: ARG MAX_FREQ: PATH /sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq: REAL_VAL: 1497600 CONF_VAL: 1497600
NVPM VERB: PARAM GPU: ARG MIN_FREQ: PATH /sys/devices/platform/17000000.gpu/devfreq_dev/min_freq: REAL_VAL: 306000000 CONF_VAL: 0
NVPM VERB: PARAM GPU: ARG MAX_FREQ: PATH /sys/devices/platform/17000000.gpu/devfreq_dev/max_freq: REAL_VAL: 1173000000 CONF_VAL: 1173000000
NVPM VERB: PARAM EMC: ARG MAX_FREQ: PATH /sys/kernel/nvpmodel_clk_cap/emc: REAL_VAL: 3199000000 CONF_VAL: 9223372036854775807
"""  # of an Orin NX 16 GB with the super configuration, L4T R36.5; from a public log, shortened


def test_the_clocks_of_a_mode_are_told_where_the_query_is_verbose(tmp_path: Path) -> None:
    program = tmp_path / "bin/nvpmodel"
    program.parent.mkdir()
    (tmp_path / "verbose.txt").write_text(VERBOSE)
    program.write_text(f"#!/bin/sh\ncat '{tmp_path}/verbose.txt'\n")
    program.chmod(0o755)
    state = observe(Reader(tmp_path), load_profile("jetson-orin-nx-super").watch)
    assert (state["power_mode"], state["mode_limits_hz"]) == ("40W", {"gpu": 1.173e9, "emc": 3.199e9})


def test_a_query_that_may_not_be_verbose_still_tells_the_mode(tmp_path: Path) -> None:
    program = tmp_path / "bin/nvpmodel"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n[ $# = 1 ] || exit 1\nprintf 'NV Power Mode: 15W\\n2\\n'\n")
    program.chmod(0o755)
    state = observe(Reader(tmp_path), load_profile("jetson-orin-nx").watch)
    assert (state["power_mode"], state["mode_limits_hz"]) == ("15W", {})


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", "36.4.3"),
        ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64", "32.7.1"),
        ("# R39 (release), REVISION: 2.0, GCID: 45755727", "39.2.0"),
        ("Debian", None),
    ],
)
def test_releases(text: str, version: str | None) -> None:
    assert parse_release(text) == version


def test_cuda_is_the_toolkits_version_not_a_parts() -> None:
    assert parse_cuda('{"cuda_cudart": {"version": "12.6.68"}, "cuda": {"name": "CUDA SDK", "version": "12.6.11"}}') == "12.6.11"
    assert parse_cuda("") is None


def test_clocks_that_are_not_locked(tmp_path: Path) -> None:
    assert UNLOCKED == {"cpu0": [729.6e6, 1497.6e6], "cpu1": [729.6e6, 1497.6e6], "cpu10": [729.6e6, 1497.6e6], "gpu": [306e6, 816e6]}
    assert locked(Reader(tmp_path), UNLOCKED) is False
    assert locked(Reader(tmp_path), {}) is None


def test_a_cpu_that_is_off_has_no_clock() -> None:
    assert parse_clocks("cpu8:  Online=0 Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=729600 \n") == {}


def test_a_cpu_under_the_governor_performance_keeps_its_clock(tmp_path: Path) -> None:
    governor = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("performance\n")
    assert locked(Reader(tmp_path), {"cpu0": [6e8, 2.4e9]}) is True
    assert locked(Reader(tmp_path), {"cpu0": [6e8, 2.4e9], "cpu1": [6e8, 2.4e9]}) is False


def test_a_board_in_its_declared_state_has_nothing_against_it() -> None:
    assert mismatches(ORIN, STATE, STATE, "tensorrt", "10.3.0.30") == []


# What is planted in the state before the run, and what must be said: property, observed, remedy.
FAULTS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "power mode": ({"power_mode": "MODE_30W"}, "power mode", "MODE_30W", "sudo nvpmodel -m 0"),
    "power mode not readable": ({"power_mode": None}, "power mode", "could not be read", "nvpmodel -q"),
    "clocks": (
        {"clocks_locked": False},
        "clocks",
        "not locked",
        "sudo jetson_clocks (afterwards, to undo it: sudo jetson_clocks --restore)",
    ),
    "clocks not readable": ({"clocks_locked": None}, "clocks", "could not be read", "sudo jetson_clocks"),
    "instructions": ({"isa_flags": ["asimd", "asimdhp"]}, "CPU extensions", "no asimddp", "harness devices list"),
    "memory": ({"memory_bytes": 30 << 30}, "memory", "30.0 GiB", "extends it"),
    "release": ({"l4t": "35.6.0"}, "version of l4t", "35.6.0", "Install l4t >=36"),
    "no Jetson": ({"l4t": None}, "version of l4t", "no /etc/nv_tegra_release", "Is this a Jetson?"),
    "Python": ({"python": "3.8.10"}, "version of python", "3.8.10", "Install python >=3.10"),
    "a version without a number": ({"cuda": "unknown"}, "version of cuda", "unknown", "Install cuda"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_is_told_once_with_its_remedy(fault: str) -> None:
    change, what, observed, remedy = FAULTS[fault]
    state = {**STATE, **change}
    (found,) = mismatches(ORIN, state, state)
    assert (found.what, found.observed) == (what, observed)
    assert remedy in found.remedy


def test_a_board_flashed_with_other_modes_is_told_so() -> None:
    """The number of a mode in another table selects another one there."""
    (found,) = [fault for fault in mismatches(load_profile("jetson-orin-nx"), SUPER, SUPER) if fault.what == "power mode"]
    assert found.observed == "MAXN_SUPER"
    assert "was flashed with others" in found.remedy and "nvpmodel -m" not in found.remedy


def test_a_runtime_out_of_range_is_told() -> None:
    (found,) = mismatches(ORIN, STATE, STATE, "tensorrt", "8.4.1")
    assert (found.what, found.declared, found.observed) == ("version of tensorrt", ORIN.software["tensorrt"], "8.4.1")


@pytest.mark.parametrize(
    ("change", "what", "observed"),
    [
        ({"power_mode": "MODE_15W"}, "power mode during the run", "MODE_15W"),
        ({"clocks_hz": {**STATE["clocks_hz"], "gpu": [306e6, 816e6]}}, "limits of the clocks during the run", "gpu 306 MHz to 816 MHz"),
        ({"governors": ["powersave"]}, "governors during the run", "powersave"),
    ],
)
def test_what_changes_during_the_run_is_told(change: dict[str, Any], what: str, observed: str) -> None:
    (found,) = mismatches(ORIN, STATE, {**STATE, **change})
    assert (found.what, found.observed) == (what, observed)
    assert "measure again" in found.remedy


def test_what_is_not_declared_is_not_compared() -> None:
    assert mismatches(load_profile("host"), STATE, STATE) == []


def test_a_state_that_was_not_taken_is_not_compared() -> None:
    assert mismatches(ORIN, {}, {}) == []


def test_of_an_emulated_device_only_the_instructions_count() -> None:
    emulated = load_profile("x86-avx2")
    state = {**STATE, "isa_flags": ["avx2", "fma"]}
    assert mismatches(emulated, state, state) == []
    (found,) = mismatches(emulated, {**state, "isa_flags": ["avx2", "fma", "avx512_vnni"]}, state)
    assert (found.declared, found.observed) == ("avx2, fma, no avx512f, no avx512_vnni, no avx_vnni", "avx512_vnni")


def test_a_gpu_is_held_against_its_own_memory_and_name() -> None:
    profile = replace(load_profile("rtx-4090"), cpu=Cpu())
    card = {"name": "NVIDIA GeForce RTX 4090", "driver": "560.35.03", "memory_bytes": 24_564 << 20, "sm": "8.9"}
    assert mismatches(profile, {**STATE, "gpu": card}, {**STATE, "gpu": card}) == []
    other = {**card, "name": "NVIDIA GeForce RTX 3060", "sm": "8.6", "memory_bytes": 12 << 30}
    assert [found.what for found in mismatches(profile, {**STATE, "gpu": other}, STATE)] == ["memory", "GPU", "compute capability"]
    (found,) = mismatches(replace(profile, identity=Identity()), {**STATE, "gpu": None}, STATE)
    assert "Install the NVIDIA driver" in found.remedy
