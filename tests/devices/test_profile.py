from __future__ import annotations

import tomllib

import pytest

from devices.errors import DeviceError
from devices.profile import FOLDER, DeviceProfile, device_names, load_profile, read_profile


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
        ({"emulated": 0}, "emulated is 0; expected bool"),
        ({"name": 3}, "name is 3; expected str"),
        ({"runtimes": "onnxruntime"}, "runtimes is 'onnxruntime'; expected a list of strings"),
        ({"runtimes": [1]}, "expected a list of strings"),
        ({"runtimes": ["tensorflow"]}, "runtimes has tensorflow; choices: onnxruntime"),
        ({"transport": "pigeon"}, "transport has pigeon; choices: local"),
        ({"memory": 3}, r"unknown: \['memory'\]"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        read_profile({**host(), **change})


def test_a_missing_field_is_named() -> None:
    raw = host()
    del raw["transport"]
    with pytest.raises(DeviceError, match=r"missing: \['transport'\]"):
        read_profile(raw)
