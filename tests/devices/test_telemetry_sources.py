"""Every provider on recorded files and lines, through the code that reads a board."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry import PROVIDERS, cpufreq, ina3221, load, nvidia_smi, rapl, tegrastats, thermal, throttle
from devices.worker.telemetry.now import Sensors
from devices.worker.telemetry.source import KINDS, AbsentError, Poll, Stream

ORIN = Reader(Path(__file__).parent / "fixtures" / "jetson-orin")
WATCH = Watch(throttle_counters=("/sys/class/hwmon/hwmon*/oc*_event_cnt",))


def tree(root: Path, **files: object) -> Reader:
    """A recorded tree: `sys__x=1` is the file /sys/x; a colon is written as `___`."""
    for name, text in files.items():
        path = root / name.replace("___", ":").replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return Reader(root)


def test_jetsons_files() -> None:
    assert ina3221.open_source(ORIN, WATCH).sample() == pytest.approx(
        {
            "power_w:VDD_GPU_SOC": 19.824 * 0.121,
            "power_w:VDD_CPU_CV": 19.824 * 0.081,
            "power_w:VIN_SYS_5V0": 4.952 * 0.951,
            "power_w:VDDQ_VDD2_1V8AO": 5.048 * 0.059,
        }
    ), "rails that are not connected, and sums of shunts, are left out"
    assert throttle.open_source(ORIN, WATCH).sample() == {"events:oc1": 0, "events:oc2": 0, "events:oc3": 0}
    assert thermal.open_source(ORIN, WATCH).sample() == {
        "temperature_c:cpu": 52.562,
        "temperature_c:gpu": 49.093,
        "temperature_c:tj": 52.562,
    }
    assert set(cpufreq.open_source(ORIN, WATCH).sample().values()) == {2_201_600_000.0}


def test_older_jetsons_have_their_rails_elsewhere(tmp_path: Path) -> None:
    folder = "sys__bus__i2c__drivers__ina3221x__6-0040__iio___device0__"
    reader = tree(tmp_path, **{f"{folder}rail_name_0": "POM_5V_IN", f"{folder}in_power0_input": 2532, f"{folder}rail_name_1": "NC"})
    assert ina3221.open_source(reader, WATCH).sample() == {"power_w:POM_5V_IN": 2.532}


def test_raspberry_pis_firmware_tells_its_state_now_and_forgets_what_was(tmp_path: Path) -> None:
    watch = Watch(throttle_counters=("/sys/devices/platform/soc*/soc*:firmware/get_throttled",))
    for told, now in (("50000", 0), ("50005", 5), ("0", 0)):
        reader = tree(tmp_path, **{"sys__devices__platform__soc__soc___firmware__get_throttled": told})
        assert throttle.open_source(reader, watch).sample() == {"throttled:firmware": now}


def test_x86_counts_throttling_for_each_core_and_package(tmp_path: Path) -> None:
    reader = tree(
        tmp_path, **{f"sys__devices__system__cpu__cpu0__thermal_throttle__{name}_throttle_count": 3 for name in ("core", "package")}
    )
    watch = Watch(throttle_counters=("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count",))
    assert throttle.open_source(reader, watch).sample() == {"events:cpu0/core": 3, "events:cpu0/package": 3}


def rapl_tree(root: Path, joules: float) -> Reader:
    zone = "sys__class__powercap__intel-rapl___0"
    return tree(
        root, **{f"{zone}__name": "package-0", f"{zone}__energy_uj": round(joules * 1e6), f"{zone}__max_energy_range_uj": 262_143_328_850}
    )


def test_a_counter_that_begins_again_goes_on(tmp_path: Path) -> None:
    source = rapl.open_source(rapl_tree(tmp_path, 262_143.0), WATCH)
    assert source.sample() == {"energy_j:package-0": pytest.approx(262_143.0)}
    rapl_tree(tmp_path, 2.0)
    assert source.sample() == {"energy_j:package-0": pytest.approx(262_145.32885)}
    rapl_tree(tmp_path, 5.0)
    assert source.sample() == {"energy_j:package-0": pytest.approx(262_148.32885)}


def test_a_counter_that_may_not_be_read_says_how_to_allow_it(tmp_path: Path) -> None:
    reader = tree(tmp_path, **{"sys__class__powercap__intel-rapl___0__name": "package-0"})
    with pytest.raises(AbsentError, match="sudo chmod a\\+r"):
        rapl.open_source(reader, WATCH)


def test_made_up_and_switched_off_sensors_are_no_temperature(tmp_path: Path) -> None:
    zones = {0: ("PMIC-Die", 100_000), 1: ("CV0-therm", -256_000), 2: ("CPU-therm", 44_500), 3: ("CPU-therm", 45_000)}
    reader = tree(
        tmp_path,
        **{f"sys__class__thermal__thermal_zone{n}__type": kind for n, (kind, _) in zones.items()},
        **{f"sys__class__thermal__thermal_zone{n}__temp": value for n, (_, value) in zones.items()},
    )
    assert thermal.open_source(reader, WATCH).sample() == {"temperature_c:CPU-therm.2": 44.5, "temperature_c:CPU-therm.3": 45.0}


@pytest.mark.parametrize("name", [name for name in PROVIDERS if name != "tegrastats"])
def test_a_provider_that_finds_nothing_says_what_it_looked_for(name: str, tmp_path: Path) -> None:
    module = {
        "nvidia-smi": nvidia_smi,
        "load": load,
        "cpufreq": cpufreq,
        "thermal": thermal,
        "throttle": throttle,
        "rapl": rapl,
        "ina3221": ina3221,
    }
    with pytest.raises(AbsentError, match=r"no /|no NVIDIA driver|declares none"):
        module[name].open_source(Reader(tmp_path), Watch())


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_channel_on_a_recorded_board_is_of_a_known_kind(name: str) -> None:
    import importlib

    try:
        source = importlib.import_module(PROVIDERS[name]).open_source(ORIN, WATCH)
    except AbsentError:
        return
    sample = source.sample() if isinstance(source, Poll) else source.parse((ORIN.root / "bin/tegrastats.txt").read_text())
    assert sample
    assert {channel.partition(":")[0] for channel in sample} <= KINDS.keys()


# Lines of tegrastats: board and release, the line, what it must tell. From public logs and tests; see the README of the fixtures.
NANO = (
    "RAM 1879/3964MB SWAP 16/1982MB CPU [9%@1479,5%@1479,2%@1479,3%@1479] EMC_FREQ 0% GR3D_FREQ 99%@921 "
    "PLL@34C CPU@36.5C PMIC@100C GPU@34C AO@43C thermal@35.25C POM_5V_IN 4412/4412 POM_5V_GPU 1264/1264 POM_5V_CPU 612/612"
)
XAVIER = (
    "RAM 3142/31924MB CPU [0%@1190,0%@1190,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 0%@318 APE 150 AO@31C GPU@31.5C "
    "Tdiode@34.25C PMIC@100C AUX@31.5C CPU@32.5C thermal@31.6C GPU 0/0 CPU 310/310 SOC 932/932 CV 0/0 VDDRQ 155/155 SYS5V 1606/1606"
)
ORIN_5 = (
    "04-24-2023 00:01:24 RAM 1282/62795MB (lfb 15152x4MB) SWAP 0/31398MB (cached 0MB) CPU [0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@0 "
    "GR3D2_FREQ 0%@0 VIC_FREQ 729 APE 174 CV0@-256C CPU@42.593C Tboard@32C SOC2@39.343C GPU@-256C tj@42.593C VDD_GPU_SOC 2399mW/2399mW "
    "VDD_CPU_CV 400mW/400mW VIN_SYS_5V0 4032mW/4032mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
)
ORIN_7 = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201] EMC_FREQ 3%@3199 GR3D_FREQ 12%@[1300,1300] "
    "VIC off APE 174 cpu@52.968C/52.968C gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW "
    "VIN_SYS_5V0 5500mW/5500mW/5500mW"
)
NANO_SUPER = (
    "RAM 2493/7620MB (lfb 1x4MB) SWAP 0/3810MB (cached 0MB) CPU [5%@729,3%@729] GR3D_FREQ 37% cpu@45.5C gpu@44.2C tj@45.5C "
    "VDD_IN 4542mW/4000mW VDD_CPU_GPU_CV 495mW/400mW VDD_SOC 1286mW/1200mW"
)
THOR = "RAM 4722/125772MB (lfb 1x512kB) EMC_FREQ 2%@1866 GR3D_FREQ @[1000,1000,1000] APE 150"
LINES = {
    "Nano, L4T 32": (NANO, {"utilisation:gpu": 0.99, "frequency_hz:gpu": 921e6, "power_w:POM_5V_IN": 4.412, "temperature_c:cpu": 36.5}),
    "Xavier, L4T 32": (XAVIER, {"frequency_hz:gpu": 318e6, "power_w:SYS5V": 1.606, "power_w:GPU": 0.0, "temperature_c:gpu": 31.5}),
    "Orin, L4T 35": (
        ORIN_5,
        {"utilisation:gpu": 0.0, "power_w:VIN_SYS_5V0": 4.032, "temperature_c:tj": 42.593, "frequency_hz:emc": 2133e6},
    ),
    "Orin, L4T 39": (
        ORIN_7,
        {"utilisation:gpu": 0.12, "frequency_hz:gpu": 1300e6, "power_w:VDD_GPU_SOC": 5.139, "temperature_c:gpu": 47.625},
    ),
    "Orin Nano, L4T 36": (NANO_SUPER, {"utilisation:gpu": 0.37, "power_w:VDD_IN": 4.542, "memory_bytes:ram": float(2493 << 20)}),
    "Thor, its GPU at rest": (
        "05-14-2026 21:36:35 RAM 26063/125772MB (lfb 35x4MB) CPU [2%@972,0%@972] VDD_GPU -392mW/-392mW VDD_CPU_SOC_MSS 3924mW/3835mW "
        "VIN_SYS_5V0 5064mW/5055mW VIN 15004mW/15096mW",
        {"power_w:VDD_GPU": -0.392, "power_w:VDD_CPU_SOC_MSS": 3.924, "power_w:VIN_SYS_5V0": 5.064, "power_w:VIN": 15.004},
    ),
    "Thor": (THOR, {"frequency_hz:gpu": 1000e6, "frequency_hz:emc": 1866e6}),
}


@pytest.mark.parametrize("board", LINES)
def test_a_line_of_tegrastats(board: str) -> None:
    line, told = LINES[board]
    found = tegrastats.parse(line)
    assert found | told == found
    assert not any(value < -40 for value in found.values()), "a sensor that is off"
    assert "temperature_c:pmic" not in found and "power_w:NC" not in found and "power_w:RAM" not in found


def test_thor_tells_no_load_and_a_bare_load_tells_no_clock() -> None:
    assert "utilisation:gpu" not in tegrastats.parse(THOR)
    assert "frequency_hz:gpu" not in tegrastats.parse(NANO_SUPER)


rails = st.dictionaries(
    st.from_regex(r"V[A-Z0-9_]{2,10}", fullmatch=True).filter(lambda name: name != "NC"), st.integers(-999, 99_999), max_size=5
)
clocks = st.lists(st.integers(1, 2000), min_size=1, max_size=3)


@given(rails, st.integers(0, 100), clocks, st.sampled_from(["one", "many", "only"]))
def test_what_tegrastats_prints_is_what_is_read(power: dict[str, int], load: int, megahertz: list[int], form: str) -> None:
    """All three forms of the GPU, any rails."""
    listed = ",".join(map(str, megahertz))
    gpu = {"one": f"{load}%@{megahertz[0]}", "many": f"{load}%@[{listed}]", "only": f"@[{listed}]"}[form]
    line = f"RAM 1/2MB GR3D_FREQ {gpu} APE 174 " + " ".join(f"{rail} {value}mW/{value + 1}mW" for rail, value in power.items())
    found = tegrastats.parse(line)
    assert found["frequency_hz:gpu"] == (megahertz[0] if form == "one" else max(megahertz)) * 1e6
    assert found.get("utilisation:gpu") == (None if form == "only" else load / 100)
    assert {name: value for name, value in found.items() if name.startswith("power_w:")} == {
        f"power_w:{rail}": value / 1e3 for rail, value in power.items()
    }


@given(st.text(max_size=200))
def test_any_other_line_gives_a_sample_or_none_and_never_an_error(line: str) -> None:
    assert all(isinstance(value, float) for value in tegrastats.parse(line).values())
    assert all(isinstance(value, float) for value in nvidia_smi.parse(line).values())


def test_nvidia_smis_line() -> None:
    found = nvidia_smi.parse("151.42, 63, 1980, 2619, 87, 4096, 0x0000000000000004")
    assert found == {
        "power_w:gpu": 151.42, "temperature_c:gpu": 63.0, "frequency_hz:gpu": 1980e6, "frequency_hz:gpu-memory": 2619e6,
        "utilisation:gpu": 0.87, "memory_bytes:gpu": float(4096 << 20), "throttled:gpu": 0.0,
    }, "the power cap alone is no fault"  # fmt: skip
    assert nvidia_smi.parse("[N/A], 63, 1980, 2619, 87, 4096, 0x0000000000000048")["throttled:gpu"] == 0x48
    assert "power_w:gpu" not in nvidia_smi.parse("[Not Supported], 63, 1980, 2619, 87, 4096, 0x0")


def test_streams_ask_for_the_period_of_the_profile() -> None:
    source = tegrastats.open_source(ORIN, Watch(period_ms=250))
    assert isinstance(source, Stream)
    assert source.command == ("tegrastats", "--interval", "250")


def test_sensors_of_every_kind_are_read_at_one_moment_and_what_is_not_there_is_left_out() -> None:
    """A file each, and the first line of a command that would print for ever."""
    watch = Watch(providers=("load", "thermal", "cpufreq", "tegrastats", "nvidia-smi", "rapl", "throttle"))
    found = Sensors(watch, ORIN).read()
    assert found["temperature_c:tj"] == 52.562 and found["frequency_hz:cpu0"] == 2_201_600_000.0
    line = (ORIN.root / "bin/tegrastats.txt").read_text().splitlines()[0]
    assert {name: found[name] for name in tegrastats.parse(line) if name.startswith(("frequency", "power"))} == {
        name: value for name, value in tegrastats.parse(line).items() if name.startswith(("frequency", "power"))
    }
    assert {channel.partition(":")[0] for channel in found} == {"temperature_c", "frequency_hz", "power_w"}
    assert Sensors(Watch(), ORIN).read() == {}


def test_a_command_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "tegrastats"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nexec sleep 60\n")
    command.chmod(0o755)
    begin = time.monotonic()
    assert Sensors(Watch(providers=("tegrastats",)), Reader(tmp_path)).read() == {}
    assert time.monotonic() - begin < 10
