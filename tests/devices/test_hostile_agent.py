"""The real agent, whose answers are changed on the way, one field of one message at a time: never more than a `DeviceError`."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from devices.host.errors import DeviceError
from devices.host.profile import Power, load_profile
from devices.host.transports import answers, ssh
from devices.host.transports.openssh import UnreachableError
from devices.worker.wire import Wire

pytestmark = pytest.mark.slow(30)

Change = Callable[[dict[str, Any]], dict[str, Any]]
WRONG: list[Any] = [None, -7, 1 << 63, "../..", [[]], {"a": 1}]
FIELDS = {
    "hello": ("machine", "python", "cpus", "time", "absent", "emulator", "allowed", "fast", "gpu_barred"),
    "lock": ("waiting", "left_over", "error"),
    "missing": ("missing", "error"),
    "receive": ("anything", "error"),
    "lay": ("folder", "home", "error"),
    "remove": ("anything", "error"),
    "observe": ("state", "versions", "error"),
}


class Doctored(Wire):
    """Changes what the agent answers to one operation."""

    def __init__(self, read_fd: int, write_fd: int, op: str, change: Change) -> None:
        super().__init__(read_fd, write_fd)
        self._op, self._change, self._asked = op, change, ""

    def send(self, message: dict[str, Any]) -> None:
        self._asked = message.get("op", self._asked)
        super().send(message)

    def receive(self, limit_s: float | None = None) -> dict[str, Any]:
        message = super().receive(limit_s)
        return self._change(message) if self._asked == self._op else message


@pytest.fixture
def through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Change], None]:
    """Ask what is there, put a folder there and remove it, while the answers to `op` are changed."""
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "a").write_text("content")
    code = f"from devices.worker.agent import serve; serve({str(tmp_path / 'cache')!r})"
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def transfer(op: str, change: Change) -> None:
        class Session:
            def __init__(self, host: str, python: Any) -> None:
                self._process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                assert self._process.stdout is not None and self._process.stdin is not None
                self.wire = Doctored(self._process.stdout.fileno(), self._process.stdin.fileno(), op, change)

            def fault(self) -> UnreachableError:
                return UnreachableError("gone", passing=False)

            def close(self) -> None:
                self._process.kill()
                self._process.communicate()

        monkeypatch.setattr(ssh, "Session", Session)
        # Only a device with a clock of its own is looked at, which takes longer than all the rest.
        watched = replace(load_profile("host" if op == "observe" else "null"), power=Power({"MAXN": 0}, "MAXN", ("false",)))
        with ssh.Ssh(watched, lambda line: None) as transport:
            transport.facts()
            transport.put(folder, lambda *_: None)
            assert all(path.is_relative_to(tmp_path / "cache") for path in tmp_path.rglob("a") if path != folder / "a")

    return transfer


def test_an_honest_agent_is_served(through: Callable[[str, Change], None], tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    through("lay", lambda message: asked.append(message) or message)
    (laid,) = asked
    assert Path(laid["folder"]).parent == tmp_path / "cache" / "jobs"
    assert not Path(laid["folder"]).exists(), "it was removed at the end"


@pytest.mark.parametrize(
    ("turn", "op", "field"), [(turn, op, field) for turn, (op, field) in enumerate((op, field) for op in FIELDS for field in FIELDS[op])]
)
def test_no_field_of_a_message_can_do_harm(
    turn: int, op: str, field: str, through: Callable[[str, Change], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the error of an unreachable or strange device, or as if nothing were wrong: no other exception, and no file elsewhere.

    Every field meets half of the wrong values, its neighbour the other half.
    """
    # A device may say for ever that another run has it, as the user is told; here nobody waits so long.
    monkeypatch.setattr(ssh, "follow_up", lambda wire, kind, limit_s=0.5: answers.follow_up(wire, kind, 0.5))
    before = set(tmp_path.iterdir())
    for wrong in WRONG[turn % 2 :: 2]:
        said = []

        def change(message: dict[str, Any], wrong: Any = wrong, said: list[int] = said) -> dict[str, Any]:
            said.append(1)
            return {**message, field: wrong} if len(said) < 50 else message

        try:
            through(op, change)
        except DeviceError as error:
            assert str(error).isprintable()
    left = {path for path in tmp_path.iterdir() if not path.name.startswith(".")} - {tmp_path / "edge-harness.lock"}
    assert left == before


@pytest.mark.parametrize("cpus", [0, -7, 1 << 40])
def test_a_number_of_cpus_that_cannot_be_is_refused(cpus: int, through: Callable[[str, Change], None]) -> None:
    with pytest.raises(DeviceError, match=f"answer that cannot be used: {cpus} CPUs"):
        through("hello", lambda message: {**message, "cpus": cpus})


@pytest.mark.parametrize("flood", ['{"beat": 1}', '{"waiting": "someone"}', '{"line": "x", "offset": 1}', "[" * 2000, "NaN", "\xff"])
def test_a_flood_of_anything_comes_to_an_end(flood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats, waiting lines, lines and nonsense without end, from a process that never stops talking."""
    monkeypatch.setattr(ssh, "ask", partial(answers.ask, limit_s=1.0))

    for kind, limit_s in ((answers.Hello, 1.0), (answers.Lock, 1.0)):
        with subprocess.Popen(["sh", "-c", f"exec yes {shlex.quote(flood)}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdin is not None
            wire, start = Wire(process.stdout.fileno(), process.stdin.fileno()), time.monotonic()
            transport = ssh.Ssh(load_profile("host"), lambda line: None)
            with pytest.raises(Exception, match=r"beats|not a message|answer that cannot be used|names a new run") as error:
                answers.follow_up(wire, kind, limit_s) if kind is answers.Hello else transport._take_lock(wire)
            assert isinstance(error.value, (DeviceError, ssh.NonsenseError))
            assert time.monotonic() - start < 20
            process.kill()
