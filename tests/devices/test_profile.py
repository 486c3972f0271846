from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from devices.errors import DeviceError
from devices.profile import FOLDER, DeviceProfile, device_names, load_profile, read_profile
from devices.transports import connect


@pytest.mark.parametrize("name", device_names())
def test_every_shipped_profile_is_valid_and_named_as_its_file(name: str) -> None:
    assert load_profile(name).name == name


def test_only_null_is_simulated() -> None:
    assert [name for name in device_names() if load_profile(name).simulated_clock] == ["null"]
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
        ({"simulated_clock": 0}, "simulated_clock is 0; expected bool"),
        ({"name": 3}, "name is 3; expected str"),
        ({"runtimes": "onnxruntime"}, "runtimes is 'onnxruntime'; expected a list of strings"),
        ({"runtimes": [1]}, "expected a list of strings"),
        ({"runtimes": ["tensorflow"]}, "runtimes has tensorflow; choices: onnxruntime"),
        ({"transport": "pigeon"}, "transport has pigeon; choices: local"),
        ({"transport": "emulated"}, r"expected a transport, or a table \[emulation\]"),
        ({"transport": False}, "transport is False; expected str"),
        ({"emulation": "Haswell"}, "emulation is 'Haswell'; expected a table"),
        ({"emulation": {"machine": "x86_64", "cpu": "Haswell"}}, r"missing: \['packages'\]"),
        ({"emulation": {"machine": "mips", "cpu": "24Kc", "packages": []}}, "emulation.machine has mips; choices: x86_64, aarch64"),
        ({"emulation": {"machine": "x86_64", "cpu": "Haswell", "packages": ["numpy>=2"]}}, "has numpy>=2; expected NAME==VERSION"),
        ({"memory": 3}, r"unknown: \['memory'\]"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        read_profile({**host(), **change})


def test_a_missing_field_is_named() -> None:
    raw = host()
    del raw["runtimes"]
    with pytest.raises(DeviceError, match=r"missing: \['runtimes'\]"):
        read_profile(raw)


def test_a_device_that_nothing_reaches_is_refused() -> None:
    raw = host()
    del raw["transport"]
    with pytest.raises(DeviceError, match="no way to reach it"):
        read_profile(raw)


def test_a_board_is_emulated_only_when_asked() -> None:
    board, asked = load_profile("raspberry-pi-4"), load_profile("raspberry-pi-4", emulate=True)
    assert (board.transport, board.emulated) == (None, False)
    assert (asked.transport, asked.emulated) == ("emulated", True)
    with pytest.raises(DeviceError, match=r"raspberry-pi-4 cannot be reached yet.*--emulate"):
        connect(board)


def test_an_emulated_device_is_what_it_is_either_way() -> None:
    assert load_profile("x86-avx2") == load_profile("x86-avx2", emulate=True)
    assert load_profile("x86-avx2").emulated


def test_a_device_without_an_emulation_names_those_that_have_one() -> None:
    with pytest.raises(
        DeviceError, match=r"host cannot be emulated.*: jetson-nano, jetson-orin, raspberry-pi-4, raspberry-pi-5, x86-avx2, x86-sse4"
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
