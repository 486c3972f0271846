from __future__ import annotations

import json
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devices.host.compare import declared
from devices.host.errors import DeviceError
from devices.host.profile import FOLDER, DeviceProfile, device_aliases, device_names, load_profile, read_profile
from devices.worker.spec import Watch
from export.flavours import FLAVOURS
from harness.commands.devices import app


@pytest.mark.parametrize("name", device_names())
def test_every_shipped_profile_is_valid_and_named_as_its_file(name: str) -> None:
    assert load_profile(name).name == name


def test_only_the_clock_of_null_is_synthetic() -> None:
    assert [name for name in device_names() if load_profile(name).synthetic_clock] == ["null"]
    assert "host" in device_names()


@pytest.mark.parametrize("name", ["hots", "", "../profiles/host", "host.toml"])
def test_an_unknown_device_has_its_choices(name: str) -> None:
    with pytest.raises(DeviceError, match=r"unknown device .*Choices: .*host.*null"):
        load_profile(name)


def host() -> dict[str, object]:
    return tomllib.loads((FOLDER / "host.toml").read_text())


def test_a_good_profile_is_read() -> None:
    profile = read_profile(host())
    assert isinstance(profile, DeviceProfile)
    assert profile.runtimes == ("onnxruntime",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"synthetic_clock": 0}, "synthetic_clock is 0; expected bool"),
        ({"name": 3}, "name is 3; expected str"),
        ({"runtimes": "onnxruntime"}, "runtimes is 'onnxruntime'; expected a list of strings"),
        ({"runtimes": [1]}, "expected a list of strings"),
        ({"runtimes": ["tensorflow"]}, "runtimes has tensorflow; choices: onnxruntime"),
        ({"transport": "pigeon"}, "transport has pigeon; choices: local"),
        ({"transport": "emulated"}, r"expected another transport, or a table \[emulation\]"),
        ({"transport": False}, "transport is False; expected str"),
        ({"emulation": "Haswell"}, "emulation is 'Haswell'; expected a table"),
        ({"emulation": {"machine": "x86_64", "cpu": "Haswell"}}, r"missing: \['packages'\]"),
        ({"emulation": {"machine": "mips", "cpu": "24Kc", "packages": []}}, "emulation.machine has mips; choices: x86_64, aarch64"),
        ({"emulation": {"machine": "x86_64", "cpu": "Haswell", "packages": ["numpy>=2"]}}, "has numpy>=2; expected NAME==VERSION"),
        ({"memory": 3}, r"unknown: \['memory'\]"),
        ({"kind": "toaster"}, "kind has toaster; choices: cpu, cuda, jetson"),
        ({"capabilities": ["int4"]}, "capabilities has int4; choices: fp16"),
        ({"cpu": {"isa": ["avx3"]}}, "cpu.isa has avx3; choices: sse4_1"),
        ({"cpu": {"threads": 0}}, "cpu.threads is 0; expected 1 or more"),
        ({"cpu": {"threads": 2.5}}, "cpu.threads is 2.5; expected int"),
        ({"cpu": {"affinity": ["0"]}}, r"cpu.affinity is \['0'\]; expected a list of whole numbers"),
        ({"cpu": {"affinity": [0], "threads": 2}}, "cpu.threads is 2; expected no more than the CPUs of cpu.affinity, 1"),
        ({"cpu": {"affinity": [0, 0]}}, r"cpu.affinity is \[0, 0\]; expected numbers of CPUs, 0 or more, each once"),
        ({"cpu": {"affinity": [-1]}}, r"cpu.affinity is \[-1\]"),
        (
            {"power": {"required": "PERF", "modes": {"PERF": 0}, "query": ["powerprofilesctl", "get"], "select": ["true"]}},
            "power.query is not nvpmodel, whose answer alone is understood: no run could meet it",
        ),
        ({"software": {"l4t": "36"}}, "'36' is no version range"),
        ({"software": {"windows": ">=11"}}, "software has windows; choices: l4t"),
        ({"software": {"l4t": 36}}, "software.l4t is 36; expected str"),
        ({"telemetry": {"providers": ["crystal-ball"]}}, "telemetry.providers has crystal-ball; choices: load"),
        ({"telemetry": {"period_ms": 1}}, "telemetry.period_ms is 1; expected 10 or more"),
        ({"limits": {"others_share": 0}}, "limits.others_share is 0.0; expected a share above 0"),
        ({"limits": {"cooldown_s": -1}}, "limits.cooldown_s is -1.0; expected 0 or more"),
        ({"power": {"required": "MAXN"}}, "power.required has MAXN; choices: "),
        ({"power": {"required": "MAXN", "modes": {"MAXN": 0}}}, "expected power.query and power.select"),
        ({"power": {"modes": {"MAXN": "0"}}}, "power.modes.MAXN is '0'; expected int"),
        ({"peaks": {"unit": "gpu"}}, r"peaks is {'unit': 'gpu'}; expected a list of tables, each headed \[\[peaks\]\]"),
        ({"peaks": [{"unit": "gpu", "tops": {"int8": 1.0}}]}, r"in \[peaks\[0\]\] fields missing: \['source'\]"),
        ({"peaks": [{"unit": "gpu", "source": " ", "tops": {"int8": 1.0}}]}, "lacks its source or its figure"),
        ({"peaks": [{"unit": "gpu", "source": "S"}]}, "lacks its source or its figure"),
        ({"peaks": [{"unit": "gpu", "source": "S", "tops": {"int8": -1.0}}]}, "not above 0"),
        ({"peaks": [{"unit": "gpu", "source": "S", "tops": {"int7": 1.0}}]}, "peaks.tops has int7; choices: fp32"),
        ({"peaks": [{"unit": "gpu", "source": "S", "tops": {"int8": 1}, "power_mode": "MAX"}]}, "peaks.power_mode has MAX"),
        ({"host": "root@10.0.0.7"}, "without user or address"),
        ({"password": "x"}, r"unknown: \['password'\]"),
        ({"description": "a\x1b[31mb"}, r"description has the character '\\x1b'; expected plain text"),
        ({"cpu": {"model": "a\u202eb"}}, r"cpu\.model has the character"),
        ({"power": {"modes": {"A\x07": 0}}}, r"power\.modes has the character '\\x07'|power has the character"),
        ({"python": "'"}, 'python is "\'": no closing quotation; expected a command, such as python3'),
        ({"python": " "}, "python is ' '; expected a command"),
        ({"python": "-c 1"}, "python is '-c 1'; expected a command"),
        ({"limits": {"cooldown_s": math.nan}}, r"limits\.cooldown_s is nan; expected a number up to 1e\+15"),
        ({"limits": {"cooldown_s": math.inf}}, r"limits\.cooldown_s is inf"),
        ({"limits": {"cooldown_s": 1e6}}, r"limits\.cooldown_s is 1e\+06; expected 86400 or less"),
        ({"limits": {"rise_c": -7}}, r"limits\.rise_c is -7; expected more than 0"),
        ({"limits": {"start_temperature_c": 0}}, r"limits\.start_temperature_c is 0; expected more than 0"),
        ({"cpu": {"affinity": [1 << 70]}}, r"cpu\.affinity is 1\.18e\+21; expected a number up to"),
        ({"identity": {"memory_gib": math.nan}}, r"identity\.memory_gib is nan"),
        ({"identity": {"memory_gib": -1}}, r"identity\.memory_gib is -1; expected more than 0"),
        ({"identity": {"dla_cores": -1}}, r"identity\.dla_cores is -1; expected 0 or more"),
        ({"telemetry": {"period_ms": 10**9}}, r"telemetry\.period_ms is 1e\+09; expected 60000 or less"),
        ({"power": {"modes": {"MAXN": -1}}}, r"power\.modes\.MAXN is -1; expected 0 or more"),
        ({"peaks": [{"unit": "gpu", "source": "S", "tops": {"int8": math.inf}}]}, r"peaks\.tops\.int8 is inf"),
        ({"emulation": {"machine": "x86_64", "cpu": "-o", "packages": []}}, "emulation.cpu is '-o'; expected a CPU of QEMU"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        read_profile({**host(), **change})


def test_a_text_of_several_lines_is_one_line() -> None:
    assert read_profile({**host(), "provenance": "one\n\ttwo"}).provenance == "one  two"


def test_a_missing_field_is_named() -> None:
    raw = host()
    del raw["runtimes"]
    with pytest.raises(DeviceError, match=r"missing: \['runtimes'\]"):
        read_profile(raw)


def test_a_board_is_emulated_only_when_asked() -> None:
    board, asked = load_profile("raspberry-pi-4"), load_profile("raspberry-pi-4", emulate=True)
    assert (board.transport, board.emulated) == ("ssh", False)
    assert (asked.transport, asked.emulated) == ("emulated", True)


def test_nothing_but_the_cpu_of_a_board_is_emulated() -> None:
    asked = load_profile("jetson-orin", emulate=True)
    assert (asked.kind, asked.runtimes, asked.cpu.isa) == ("cpu", ("onnxruntime",), ("asimd", "asimdhp", "asimddp"))
    assert (asked.power.required, asked.clocks.locked, asked.software, asked.peaks) == (None, False, {}, ())
    assert asked.watch == replace(Watch(), providers=(), start_temperature_c=60.0, cooldown_s=120.0)


def test_an_emulated_device_is_what_it_is_either_way() -> None:
    assert load_profile("x86-avx2") == load_profile("x86-avx2", emulate=True)
    assert load_profile("x86-avx2").emulated


def test_a_device_without_an_emulation_names_those_that_have_one() -> None:
    with pytest.raises(
        DeviceError, match=r"host cannot be emulated.*: jetson-nano, jetson-orin, .*raspberry-pi-4, raspberry-pi-5, x86-avx2, x86-sse4"
    ):
        load_profile("host", emulate=True)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "edge-harness" / "devices"
    folder.mkdir(parents=True)
    return folder


def test_a_users_profile_adds_a_device_or_replaces_a_shipped_one(own: Path) -> None:
    shipped = (FOLDER / "x86-avx2.toml").read_text()
    (own / "mine.toml").write_text(shipped.replace('name = "x86-avx2"', 'name = "mine"').replace("Haswell", "Broadwell"))
    (own / "x86-avx2.toml").write_text(shipped.replace('cpu = "Haswell"', 'cpu = "Skylake-Client"'))
    assert "mine" in device_names()
    for name, cpu in (("mine", "Broadwell"), ("x86-avx2", "Skylake-Client")):
        emulation = load_profile(name).emulation
        assert emulation is not None
        assert emulation.cpu == cpu


@pytest.mark.parametrize(
    ("text", "message"),
    [("name = 3", "fields missing"), ("name", r"mine\.toml: "), ((FOLDER / "host.toml").read_text(), "expected the file's own")],
)
def test_a_users_broken_profile_is_named_with_its_path(own: Path, text: str, message: str) -> None:
    (own / "mine.toml").write_text(text)
    with pytest.raises(DeviceError, match=message) as error:
        load_profile("mine")
    assert str(own / "mine.toml") in str(error.value)


def test_a_users_profile_extends_another_one_table_by_table(own: Path) -> None:
    (own / "lab.toml").write_text(
        """
        extends = "jetson-orin"
        name = "lab"
        host = "lab-orin"
        [power]
        required = "MODE_30W"
        [limits]
        rise_c = 5
        """
    )
    lab, orin = load_profile("lab"), load_profile("jetson-orin")
    assert (lab.host, lab.power.required, lab.limits.rise_c, lab.aliases) == ("lab-orin", "MODE_30W", 5.0, ())
    assert (lab.power.modes, lab.limits.start_temperature_c, lab.peaks, lab.identity) == (
        orin.power.modes, orin.limits.start_temperature_c, orin.peaks, orin.identity,
    )  # fmt: skip


BROKEN = {
    "no TOML": b"name",
    "not UTF-8": b'name = "\xff"',
    "a table in the place of a word": b'extends = "host"\nname = "mine"\n[transport]\na = 1',
    "a word in the place of a table": b'extends = "host"\nname = "mine"\ncpu = "fast"',
    "no name of a device": b'extends = 3\nname = "mine"',
    "a list of lists": b'extends = "host"\nname = "mine"\naliases = [["a"]]',
    "a power mode that cannot be met": (
        b'extends = "host"\nname = "mine"\n[power]\nrequired = "A"\nmodes = {A = 0}\nquery = ["a"]\nselect = ["a"]'
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_profile_breaks_no_other(own: Path, kind: str) -> None:
    (own / "mine.toml").write_bytes(BROKEN[kind])
    with pytest.raises(DeviceError, match=r"mine\.toml"):
        load_profile("mine")
    assert load_profile("jetson-agx-orin").name == "jetson-orin"
    with pytest.raises(DeviceError, match="choose one that can: jetson"):
        load_profile("host", emulate=True)
    done = CliRunner().invoke(app, ["list", "--json"])
    assert done.exit_code == 0
    assert {entry["name"] for entry in json.loads(done.stdout)} == set(device_names()) - {"mine"}
    assert "mine.toml" in done.stderr


def test_verified_is_never_inherited(own: Path) -> None:
    (own / "mine.toml").write_text('extends = "host"\nname = "mine"')
    assert load_profile("host").verified_on_hardware
    assert not load_profile("mine").verified_on_hardware


def test_a_users_host_may_extend_the_shipped_one(own: Path) -> None:
    (own / "host.toml").write_text('extends = "host"\nname = "host"\n[cpu]\nthreads = 1')
    assert load_profile("host").cpu.threads == 1


@pytest.mark.parametrize("base", ["nobody", "circle"])
def test_a_profile_cannot_extend_what_is_not_there_or_itself(own: Path, base: str) -> None:
    (own / "circle.toml").write_text('extends = "ring"\nname = "circle"')
    (own / "ring.toml").write_text(f'extends = "{base}"\nname = "ring"')
    with pytest.raises(DeviceError, match=r"expected another device: .*host"):
        load_profile("ring")


def test_aliases_lead_to_their_device_and_a_device_of_that_name_comes_first(own: Path) -> None:
    assert load_profile("jetson-agx-orin") == load_profile("jetson-orin")
    assert device_aliases()["h100-sxm"] == "h100"
    (own / "h100-sxm.toml").write_text('extends = "h100"\nname = "h100-sxm"')
    assert load_profile("h100-sxm").name == "h100-sxm"


@pytest.mark.parametrize("name", device_names())
def test_every_shipped_profile_says_where_its_facts_come_from(name: str) -> None:
    profile = load_profile(name)
    assert len(profile.provenance) > 20
    assert profile.verified_on_hardware == (name == "host"), "nobody here had any other hardware"
    assert all(len(peak.source) > 20 for peak in profile.peaks)
    if profile.kind == "jetson":
        assert profile.power.required and profile.clocks.locked and profile.telemetry.rails and profile.identity.shared_memory


def test_the_power_mode_decides_the_peak() -> None:
    """Sparse INT8 of the AGX Orin's GPU as NVIDIA prints it."""
    seen = {peak.power_mode: peak.tops["int8-sparse"] for peak in load_profile("jetson-orin").peaks if peak.unit == "gpu"}
    assert seen == {"MAXN": 171, "MODE_50W": 109, "MODE_30W": 41, "MODE_15W": 14}


def test_the_remedy_is_the_very_command() -> None:
    assert load_profile("jetson-orin").power.remedy() == "sudo nvpmodel -m 0"
    assert load_profile("jetson-orin-nano").power.remedy() == "sudo nvpmodel -m 2"


# Power modes as nvpmodel numbers them on each board.
MODES = {
    "jetson-orin": {"MAXN": 0, "MODE_15W": 1, "MODE_30W": 2, "MODE_50W": 3},
    "jetson-orin-nx": {"MAXN": 0, "10W": 1, "15W": 2, "25W": 3},
    "jetson-orin-nx-super": {"MAXN_SUPER": 0, "10W": 1, "15W": 2, "25W": 3, "40W": 4},
    "jetson-orin-nano": {"15W": 0, "25W": 1, "MAXN_SUPER": 2, "7W": 3},
    "jetson-thor": {"MAXN": 0, "120W": 1, "90W": 2, "70W": 3},
}


@pytest.mark.parametrize("name", MODES)
def test_a_boards_modes_are_numbered_as_nvpmodel_does_and_none_that_slows_the_gpu_is_required(name: str) -> None:
    profile = load_profile(name)
    assert profile.power.modes == MODES[name]
    assert profile.power.required in ("MAXN", "MAXN_SUPER")
    fastest = [peak.power_mode for peak in profile.peaks if peak.unit == "gpu" and peak.power_mode]
    assert profile.power.required == fastest[0]


@pytest.mark.parametrize(("name", "mode", "megahertz"), [
    ("jetson-orin-nx", "MAXN", 918), ("jetson-orin-nx", "15W", 612), ("jetson-orin-nx", "25W", 408),
    ("jetson-orin-nx-super", "MAXN_SUPER", 1173), ("jetson-orin-nx-super", "40W", 1173),
])  # fmt: skip
def test_an_orin_nxs_peak_is_its_gpus_alone_at_the_clock_of_the_mode(name: str, mode: str, megahertz: int) -> None:
    """32 tensor cores of 1,024 dense INT8 operations a cycle; the data sheet's 100 TOPS have both DLA cores in them."""
    (peak,) = [peak for peak in load_profile(name).peaks if (peak.unit, peak.power_mode) == ("gpu", mode)]
    assert peak.tops["int8"] == pytest.approx(32 * 1024 * megahertz * 1e6 / 1e12, rel=1e-3)
    assert peak.tops["int8-sparse"] == pytest.approx(2 * peak.tops["int8"], rel=1e-3)


def test_what_is_declared_can_be_read_by_people() -> None:
    assert declared(load_profile("host")) == {}
    facts = declared(load_profile("jetson-orin"))
    assert (facts["power mode"], facts["clocks"], facts["memory"], facts["l4t"]) == ("MAXN", "locked", "64 GiB", ">=36")


def test_what_is_measured_by_default_is_what_a_device_runs() -> None:
    """A board with a GPU is asked for TensorRT; its CPU, emulated, for onnxruntime."""
    for name in device_names():
        profile = load_profile(name)
        assert set(profile.flavours) <= FLAVOURS.keys()
        assert {FLAVOURS[flavour].runtime for flavour in profile.flavours} <= set(profile.runtimes), name
    assert load_profile("jetson-orin-nano").flavours == ("trt-fp16", "trt-int8")
    assert load_profile("jetson-orin", emulate=True).flavours == ("onnx-fp32", "ort-int8")
