"""A login that may not open the GPU's device nodes is told so before any work. The nodes are files with the modes that boards give them."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from devices.host import preflight as module
from devices.host.errors import DeviceError
from devices.host.gpus import require_gpu
from devices.host.preflight import preflight
from devices.host.probe import probe
from devices.host.profile import load_profile
from devices.host.transports import Facts
from devices.worker.gpu_access import barred
from devices.worker.reader import ROOT, Reader

NOBODY, VIDEO = 65534, grp.getgrnam("video").gr_gid
JETPACK_6 = {"nvmap": (0o660, VIDEO), "nvhost-ctrl-gpu": (0o660, VIDEO), "nvgpu/igpu0/ctrl": (0o660, VIDEO)}
ROOT_ALONE = {"nvidiactl": (0o600, 0), "nvidia0": (0o600, 0)}
SECOND_OPEN = {"nvidiactl": (0o666, 0), "nvidia0": (0o660, 0), "nvidia1": (0o666, 0)}
PC = {"nvidiactl": (0o666, 0), "nvidia0": (0o666, 0), "nvidia-uvm": (0o666, 0)}

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


@pytest.fixture
def root() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp())  # not below pytest's folder, which is root's alone
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def lay(root: Path, nodes: dict[str, tuple[int, int]]) -> None:
    for name, (mode, group) in nodes.items():
        path = root / "dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(mode)
        os.chown(path, 0, group)


def seen_by(root: Path, groups: list[int]) -> str:
    """What `barred` says to the user nobody, who is in these groups besides."""
    out, into = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups(groups)
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        os.write(into, barred(Reader(root)).encode())
        os._exit(0)
    os.close(into)
    os.waitpid(child, 0)
    with os.fdopen(out) as said:
        return said.read()


def test_a_login_outside_the_group_is_told_which_and_one_inside_may(root: Path) -> None:
    lay(root, JETPACK_6)
    name = pwd.getpwuid(NOBODY).pw_name
    assert seen_by(root, []) == (
        f"the login {name} may not use the GPU: /dev/nvmap cannot be opened. Type there: sudo usermod -aG video {name}, then log in again"
    )
    assert seen_by(root, [VIDEO]) == ""


@pytest.mark.parametrize(("nodes", "words"), [(ROOT_ALONE, "open to root alone"), (SECOND_OPEN, ""), (PC, ""), ({}, "")])
def test_other_machines(root: Path, nodes: dict[str, tuple[int, int]], words: str) -> None:
    lay(root, nodes)
    said = seen_by(root, [])
    assert words in said and bool(said) == bool(words)


WHY = "the login me may not use the GPU: /dev/nvmap cannot be opened. Type there: sudo usermod -aG video me, then log in again"


class Reached:
    """A device that lets nobody at its GPU."""

    def __enter__(self) -> Reached:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def facts(self) -> Facts:
        return Facts("aarch64", 8, None, gpu_barred=WHY)


def test_it_is_said_before_any_work_and_only_where_a_gpu_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "connect", lambda profile, say: Reached())
    orin = load_profile("jetson-orin")
    for runtimes in (["tensorrt"], ["onnxruntime", "tensorrt"], []):
        with pytest.raises(DeviceError, match=r"jetson-orin: the login me may not use the GPU.*usermod -aG video me"):
            preflight(orin, lambda line: None, runtimes)
    assert preflight(orin, lambda line: None, ["onnxruntime"]).machine == "aarch64"


def test_a_probe_says_it_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devices.host.probe._ASK", _ask_with(WHY))
    here = replace(load_profile("host"), runtimes=("onnxruntime", "tensorrt"))
    assert WHY in probe(here).missing
    assert WHY not in probe(load_profile("host")).missing


def _ask_with(why: str) -> str:
    from devices.host import probe as asked

    return asked._ASK.replace("barred(Reader())", repr(why))


def test_no_driver_is_not_blamed_where_the_login_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT, str(root))
    monkeypatch.setattr("devices.host.gpus.barred", lambda reader: WHY)
    monkeypatch.setattr("devices.host.gpus.gpu", lambda reader: None)
    with pytest.raises(DeviceError, match="cuda: the login me may not use the GPU"):
        require_gpu(load_profile("cuda"))
