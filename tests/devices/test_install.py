from __future__ import annotations

import pytest

from devices.host.install import System, remedies

JETPACK_6 = System("Ubuntu 22.04.5 LTS", "aarch64", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64")
JETPACK_7 = System(
    "Ubuntu 24.04.2 LTS", "aarch64", "# R38 (release), REVISION: 2.0, GCID: 1, BOARD: generic", managed=True, home="/home/me"
)
PI = System("Debian GNU/Linux 12 (bookworm)", "aarch64", managed=True, home="/home/me")
PI_32 = System("Raspbian GNU/Linux 12 (bookworm)", "armv7l", managed=True)
UBUNTU = System("Ubuntu 22.04.5 LTS", "x86_64")
VENV = (
    "sudo apt-get install -y python3-venv && python3 -m venv --system-site-packages /home/me/edge-harness-python && "
    "/home/me/edge-harness-python/bin/python -m pip install {}, "
    'then write python = "/home/me/edge-harness-python/bin/python" into the device\'s profile'
)


@pytest.mark.parametrize(
    ("absent", "system", "expected"),
    [
        (
            ["numpy", "onnxruntime"],
            JETPACK_6,
            ["sudo apt-get install -y python3-pip && python3 -m pip install --user 'numpy<2' onnxruntime"],
        ),
        (["tensorrt"], JETPACK_6, ["sudo apt-get update && sudo apt-get install -y nvidia-jetpack"]),
        (["onnxruntime"], JETPACK_7, [VENV.format("onnxruntime")]),
        (["numpy", "onnxruntime"], PI, [VENV.format("numpy onnxruntime")]),
        (["onnxruntime"], UBUNTU, ["sudo apt-get install -y python3-pip && python3 -m pip install --user onnxruntime"]),
        (["tensorrt"], UBUNTU, ["sudo apt-get install -y python3-pip && python3 -m pip install --user tensorrt"]),
        (["onnxruntime"], System("Ubuntu 24.04.2 LTS", "x86_64", venv=True), ["python3 -m pip install onnxruntime"]),
        (["onnxruntime"], System("Fedora Linux 42", "x86_64"), ["python3 -m pip install onnxruntime"]),
        ([], PI, []),
    ],
)
def test_the_command_fits_the_system(absent: list[str], system: System, expected: list[str]) -> None:
    assert [line.partition(" cannot be imported: ")[2] for line in remedies(absent, system, "python3")] == expected


def test_a_32_bit_system_is_told_to_be_replaced() -> None:
    assert "install the 64-bit Raspberry Pi OS" in remedies(["numpy"], PI_32, "python3")[0]


def test_pip_and_apt_have_a_line_each() -> None:
    assert [line.split(" cannot")[0] for line in remedies(["numpy", "tensorrt"], JETPACK_6, "python3")] == ["numpy", "tensorrt"]
