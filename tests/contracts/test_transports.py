"""One table over every transport: put a folder, start a program there, talk to it, end it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sshd
from quick_engines import processes, run, silent

from devices.host.channel import LINE_LENGTH, STDERR_LINES, Exit
from devices.host.errors import DeviceError
from devices.host.profile import load_profile
from devices.host.transports import TRANSPORTS, Transport, connect
from devices.worker.wire import ClosedError, SilentError

pytestmark = pytest.mark.slow(20)

QEMU = any(map(shutil.which, ("qemu-x86_64-static", "qemu-x86_64")))
AWKWARD = 'it\'s $(a) "folder"; rm -rf *'
ECHO = "import sys\nwhile line := sys.stdin.buffer.readline():\n    sys.stdout.buffer.write(line.upper()); sys.stdout.buffer.flush()\n"
CHILD = "import os, subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\nprint(os.getpid(), child.pid, flush=True)\n"


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


def test_the_program_finds_the_whole_folder(transport: Transport, folder: Path) -> None:
    code = (
        "import hashlib; print(hashlib.sha256(open('model.bin', 'rb').read()).hexdigest(), open('in ner/né.txt', encoding='utf-8').read())"
    )
    assert run(transport, transport.put(folder, silent), code) == (
        Exit(0, False, ()),
        [hashlib.sha256(bytes(range(256)) * 4096).hexdigest() + " hello"],
    )


def test_it_may_run_in_a_folder_below(transport: Transport, folder: Path) -> None:
    there = transport.put(folder, silent)
    assert run(transport, f"{there}/in ner", "import os; print(os.listdir(), os.path.exists('../model.bin'))")[1] == ["['né.txt'] True"]


def test_arguments_arrive_word_by_word(transport: Transport, folder: Path) -> None:
    there = transport.put(folder, silent)
    words = [AWKWARD, "", "a\tb", "$HOME `id` 'x'", "*", "-c"]
    channel = transport.open([*transport.python, "-c", "import sys; print(ascii(sys.argv[1:]))", *words], there)
    assert channel.line(60.0) == ascii(words).encode()
    assert channel.end().code == 0


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


def test_it_is_talked_to_both_ways(transport: Transport, folder: Path) -> None:
    raw = os.urandom(3 << 20)
    code = (
        "import sys\nwhile head := sys.stdin.buffer.readline():\n"
        "    sys.stdout.buffer.write(head + sys.stdin.buffer.read(int(head))[::-1]); sys.stdout.buffer.flush()"
    )
    channel = transport.open([*transport.python, "-c", code], transport.put(folder, silent))
    for size in (len(raw), 0, 1):
        channel.send(b"%d\n" % size + raw[:size], 60.0)
        assert channel.line(60.0) == b"%d" % size
        assert channel.read(size, 60.0) == raw[:size][::-1]
    assert not channel.pending
    assert channel.end(60.0) == Exit(0, False, ())


def test_two_are_open_at_once(transport: Transport, folder: Path) -> None:
    there = transport.put(folder, silent)
    first, second = (transport.open([*transport.python, "-c", ECHO], there) for _ in range(2))
    for word in (b"one", b"two"):
        for channel in (second, first):
            channel.send(word + b"\n", 5.0)
        assert [first.line(60.0), second.line(60.0)] == [word.upper()] * 2
    first.end(0.0)
    second.send(b"still\n", 5.0)
    assert second.line(60.0) == b"STILL", "its neighbour's end is not its own"
    assert second.end(60.0) == Exit(0, False, ())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; print('oh', file=sys.stderr); sys.exit(3)", Exit(3, False, ("oh",))),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", Exit(-signal.SIGTERM, False, ())),
    ],
)
def test_how_it_ends_is_told(transport: Transport, folder: Path, code: str, expected: Exit) -> None:
    ended, _ = run(transport, transport.put(folder, silent), code)
    assert (ended.code, ended.hung) == (expected.code, expected.hung)
    assert ended.stderr[: len(expected.stderr)] == expected.stderr


def test_much_standard_error_does_not_block_and_its_end_is_kept(transport: Transport, folder: Path) -> None:
    code = "import sys\nfor i in range(3000): print(i, 'x' * 1000, file=sys.stderr)"
    ended, _ = run(transport, transport.put(folder, silent), code)
    assert (ended.code, len(ended.stderr)) == (0, STDERR_LINES)
    assert ended.stderr[-1].startswith("2999 ") and len(ended.stderr[-1]) == LINE_LENGTH


def test_silence_is_seen(transport: Transport, folder: Path) -> None:
    channel = transport.open(
        [*transport.python, "-c", "print('once', flush=True); import time; time.sleep(600)"], transport.put(folder, silent)
    )
    assert channel.line(60.0) == b"once"
    assert channel.line(0.3) is None
    with pytest.raises(SilentError, match=r"0 of 5 bytes came within 0\.3 s"):
        channel.read(5, 0.3)
    with pytest.raises(SilentError, match=r"nothing could be sent for 0\.3 s"):
        channel.send(bytes(64 << 20), 0.3)
    assert channel.end(0.0).hung


def test_what_is_not_there_ends_with_a_reason(transport: Transport, folder: Path) -> None:
    there = transport.put(folder, silent)
    if type(transport).__name__ == "Ssh":
        channel = transport.open(["no-such-program"], there)
        with pytest.raises(ClosedError):
            channel.line(60.0)
        ended = channel.end()
        assert ended.code == 127 and "no-such-program" in ended.stderr[-1] and not channel.lost(ended)
        return
    with pytest.raises(DeviceError, match="cannot run no-such-program"):
        transport.open(["no-such-program"], there)


def test_its_end_kills_it_and_here_all_that_it_started(transport: Transport, folder: Path) -> None:
    """On another machine a program ends with its input, which the worker watches (see `tests/contracts/test_sessions.py`)."""
    channel = transport.open([*transport.python, "-c", f"{CHILD}import sys; sys.stdin.read(); child.kill()"], transport.put(folder, silent))
    line = channel.line(60.0)
    assert line is not None
    channel.end(0.0 if type(transport).__name__ != "Ssh" else 5.0)
    stop = time.monotonic() + 10
    while any(map(alive, map(int, line.split()))) and time.monotonic() < stop:
        time.sleep(0.02)
    assert not any(map(alive, map(int, line.split())))
    assert processes(folder) == []


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead but not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_is_kept_there_can_be_thrown_away(
    transport: Transport, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "board" / "cache"))  # of this machine; over SSH the board's is there
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "board"))
    plan = tmp_path / "board" / "cache" / "edge-harness" / "engines" / "plan-1" / "engine.plan"
    plan.parent.mkdir(parents=True)
    plan.write_bytes(bytes(1000))
    assert transport.clean().removed["engines"] == 1
    assert not plan.exists()
    assert transport.clean().freed_bytes == 0
    there = transport.put(folder, silent)
    assert Path(there, "model.bin").is_file()
