"""The commands that install what a device lacks, for the systems that boards come with: JetPack, Raspberry Pi OS, Ubuntu, Debian."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

VENV = "edge-harness-python"  # below the home folder of the login
# Where the system's Python is too old, a standalone one beside it, of python-build-standalone: it runs on Ubuntu 18.04 (JetPack 4) too.
NEWER_PYTHON = (
    f"curl -LsSf https://astral.sh/uv/install.sh | sh && ~/.local/bin/uv venv --seed --python 3.10 ~/{VENV} && "
    f"~/{VENV}/bin/python -m pip install 'numpy<2' onnxruntime, then write python = \"~/{VENV}/bin/python\" into the device's profile"
)


@dataclass(frozen=True)
class System:
    """What decides how packages are installed.

    Attributes:
        name: as the system says, e.g. "Ubuntu 22.04.5 LTS".
        machine: instruction set, as `uname -m` says.
        l4t: first line of /etc/nv_tegra_release, on a Jetson.
        managed: pip refuses to install beside the system's packages (PEP 668).
        venv: the Python asked is one of a virtual environment.
        home: the home folder of the login.
    """

    name: str = ""
    machine: str = ""
    l4t: str = ""
    managed: bool = False
    venv: bool = False
    home: str = "~"


def remedies(absent: Sequence[str], system: System, python: str) -> list[str]:
    """One sentence for each way of installing: what is absent, and the command to type on the device.

    Args:
        absent: import names of packages.
        system: of the device.
        python: the command that starts its Python.
    """
    jetson = bool(system.l4t)
    by_apt = [name for name in absent if name == "tensorrt" and jetson]
    by_pip = [name for name in absent if name not in by_apt]
    found = []
    if by_pip and system.machine in ("armv7l", "armv6l"):
        found.append(
            f"{', '.join(by_pip)} cannot be imported, and there are no packages for a 32-bit system ({system.machine}): "
            f"install the 64-bit Raspberry Pi OS"
        )
    elif by_pip:
        found.append(f"{', '.join(by_pip)} cannot be imported: {_pip(by_pip, system, python)}")
    if by_apt:
        found.append("tensorrt cannot be imported: sudo apt-get update && sudo apt-get install -y nvidia-jetpack")
    return found


def _pip(packages: Sequence[str], system: System, python: str) -> str:
    # JetPack 6's own libraries are built for numpy 1; its packaged numpy is older than onnxruntime wants.
    old_numpy = re.search(r"\bR3[56]\b", system.l4t) is not None
    wanted = " ".join("'numpy<2'" if name == "numpy" and old_numpy else name for name in packages)
    if system.venv or not system.name.startswith(("Ubuntu", "Debian", "Raspbian")):
        return f"{python} -m pip install {wanted}"
    if not system.managed:
        return f"sudo apt-get install -y python3-pip && {python} -m pip install --user {wanted}"
    venv = f"{system.home}/{VENV}"  # absolute: what starts Python stands in other folders than the login
    return (
        f"sudo apt-get install -y python3-venv && {python} -m venv --system-site-packages {venv} && "
        f'{venv}/bin/python -m pip install {wanted}, then write python = "{venv}/bin/python" into the device\'s profile'
    )
