"""One table over every transport: put a folder, run, progress, bring back, errors, cancellation."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sshd

from devices.host.errors import DeviceError
from devices.host.profile import load_profile
from devices.host.transports import TRANSPORTS, Exit, Transport, connect

QEMU = any(map(shutil.which, ("qemu-x86_64-static", "qemu-x86_64")))
AWKWARD = 'it\'s $(a) "folder"; rm -rf *'


@pytest.fixture(params=sorted(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    if request.param == "emulated" and not QEMU:
        pytest.skip("qemu-x86_64-static is not installed")
    if request.param == "ssh":
        board: sshd.Board = request.getfixturevalue("board")
        board.start()
        profile = board.profile()
    else:
        profile = load_profile({"local": "host", "emulated": "x86-sse4"}[request.param])
    with connect(profile) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with awkward names in it."""
    place = tmp_path / AWKWARD
    (place / "in ner").mkdir(parents=True)
    (place / "model.bin").write_bytes(bytes(range(256)) * 4096)
    (place / "in ner" / "né.txt").write_text("hello")
    return place


def run(transport: Transport, there: str, code: str, silence_s: float = 60.0) -> tuple[Exit, list[str]]:
    lines: list[str] = []
    return transport.run([*transport.python, "-c", code], there, lines.append, silence_s), lines


def quiet(step: str, done: int, total: int) -> None:
    pass


def test_the_command_finds_the_whole_folder_and_its_answer_comes_back(transport: Transport, folder: Path, tmp_path: Path) -> None:
    there = transport.put(folder, quiet)
    ended, lines = run(
        transport,
        there,
        "import os, hashlib, pathlib\n"
        "print(hashlib.sha256(open('model.bin', 'rb').read()).hexdigest(), open('in ner/né.txt').read())\n"
        "os.makedirs('result/deep'); pathlib.Path('result/deep/a.bin').write_bytes(bytes(range(256)) * 9999)\n"
        "pathlib.Path('result/empty').touch()",
    )
    assert ended == Exit(0, False, ())
    assert lines == [hashlib.sha256(bytes(range(256)) * 4096).hexdigest() + " hello"]
    transport.get(f"{there}/result", tmp_path / "back")
    assert (tmp_path / "back" / "deep" / "a.bin").read_bytes() == bytes(range(256)) * 9999
    assert (tmp_path / "back" / "empty").read_bytes() == b""


def test_facts_are_those_of_the_machine(transport: Transport) -> None:
    facts = transport.facts()
    assert facts.machine == os.uname().machine
    assert 1 <= facts.cpus <= (os.cpu_count() or 1)
    assert (facts.emulator is not None) == (type(transport).__name__ == "Emulated")
    assert abs(facts.clock_skew_s) < 5


def test_progress_of_an_upload_rises_to_its_total(transport: Transport, folder: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    transport.put(folder, lambda *step: steps.append(step))
    assert all(name == "upload" and done <= total for name, done, total in steps)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert not steps or steps[-1][1] == steps[-1][2]


def test_lines_come_while_the_command_runs(transport: Transport, folder: Path) -> None:
    arrived: list[float] = []
    code = "import time\nprint(1, flush=True)\ntime.sleep(1)\nprint(2)"
    transport.run([*transport.python, "-c", code], transport.put(folder, quiet), lambda _: arrived.append(time.monotonic()), 60)
    assert arrived[1] - arrived[0] > 0.5


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; print('oh', file=sys.stderr); sys.exit(3)", Exit(3, False, ("oh",))),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Exit(-signal.SIGKILL, False, ())),
    ],
)
def test_how_it_ends_is_told(transport: Transport, folder: Path, code: str, expected: Exit) -> None:
    assert run(transport, transport.put(folder, quiet), code)[0] == expected


def test_a_command_runs_as_often_as_it_is_asked_to(transport: Transport, folder: Path) -> None:
    there = transport.put(folder, quiet)
    code = "open('count', 'a').write('x'); print(len(open('count').read()))"
    assert [run(transport, there, code)[1] for _ in range(3)] == [["1"], ["2"], ["3"]]


def test_silence_ends_it(transport: Transport, folder: Path) -> None:
    ended, lines = run(transport, transport.put(folder, quiet), "import time; print('once', flush=True); time.sleep(600)", 3.0)
    assert (ended.hung, lines) == (True, ["once"])


def test_what_is_not_there_is_a_device_error(transport: Transport, folder: Path, tmp_path: Path) -> None:
    there = transport.put(folder, quiet)
    with pytest.raises(DeviceError, match="cannot run no-such-program"):
        transport.run(["no-such-program"], there, print, 5)


def test_an_interrupt_kills_it_with_all_it_started(transport: Transport, folder: Path) -> None:
    code = (
        "import subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\n"
        "import os\nprint(os.getpid(), child.pid, flush=True)\ntime.sleep(600)"
    )
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.extend(map(int, line.split()))
        threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()

    there = transport.put(folder, quiet)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            transport.run([*transport.python, "-c", code], there, interrupt, 60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(pids) == 2
    stop = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < stop:
        time.sleep(0.02)
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead but not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
