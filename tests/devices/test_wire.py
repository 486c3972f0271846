"""Two ends of real pipes."""

from __future__ import annotations

import fcntl
import os
import resource
import threading
import time
from collections.abc import Iterator

import pytest

from devices.worker import wire
from devices.worker.wire import BEAT, ClosedError, SilentError, Wire

BEYOND_SELECT = 1024


@pytest.fixture
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Wire, Wire]]:
    """Two ends; a parameter is their limit on silence."""
    first, second, limit_s = os.pipe(), os.pipe(), getattr(request, "param", None)
    yield Wire(first[0], second[1], limit_s), Wire(second[0], first[1], limit_s)
    for fd in (*first, *second):
        try:
            os.close(fd)
        except OSError:
            continue


def test_messages_and_bytes_arrive_as_they_were_sent(ends: tuple[Wire, Wire]) -> None:
    near, far = ends
    raw = os.urandom(3 << 20)
    sender = threading.Thread(target=lambda: (near.send({"op": "näme\n", "size": len(raw)}), near.write(raw), near.send({})))
    sender.start()
    assert far.receive() == {"op": "näme\n", "size": len(raw)}
    assert b"".join(far.read(len(raw))) == raw
    assert far.receive() == {}
    sender.join()


def test_an_end_in_a_process_with_thousands_of_open_files_works(ends: tuple[Wire, Wire]) -> None:
    """`harness.bench` called in such a process, a server of notebooks for instance: select refused the number of its pipe."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * BEYOND_SELECT:
        pytest.skip("no process may open so many files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * BEYOND_SELECT), hard))
    numbers = [fcntl.fcntl(fd, fcntl.F_DUPFD, BEYOND_SELECT) for fd in ends[0].fds]
    try:
        near, far = Wire(*numbers), ends[1]
        assert near.line(0.01) is None
        near.send({"op": "hello"})
        assert far.receive() == {"op": "hello"}
        far.send({"n": 1})
        assert near.receive() == {"n": 1}
    finally:
        for number in numbers:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_end_that_is_gone_is_seen_by_reader_and_writer(ends: tuple[Wire, Wire]) -> None:
    near, far = ends
    for fd in far.fds:
        os.close(fd)
    with pytest.raises(ClosedError, match="the connection was closed"):
        near.receive()
    with pytest.raises(ClosedError):
        near.write(bytes(1 << 20))


@pytest.mark.parametrize("ends", [0.3], indirect=True)
def test_silence_means_that_it_is_gone(ends: tuple[Wire, Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BEAT_S", 0.1)
    near, _ = ends
    for wait in (near.receive, lambda: [near.check(0.1) for _ in range(9)], lambda: list(near.read(1)), lambda: near.write(bytes(1 << 22))):
        with pytest.raises(ClosedError, match=r"for 0\.3 s"):
            wait()


def test_one_that_stops_within_an_answer_or_does_not_read_is_silent(ends: tuple[Wire, Wire]) -> None:
    near, far = ends
    far.write(b"abc")
    with pytest.raises(SilentError, match=r"3 of 4 bytes came within 0\.2 s"):
        near.exactly(4, 0.2)
    assert near.exactly(3, 0.2) == b"abc", "what came is not lost"
    with pytest.raises(SilentError, match=r"nothing could be sent for 0\.2 s"):
        near.write(bytes(1 << 22), 0.2)


def test_bytes_that_come_one_by_one_do_not_stretch_the_limit(ends: tuple[Wire, Wire]) -> None:
    near, far = ends
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.02):
            far.write(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    start = time.monotonic()
    assert near.line(0.3) is None
    with pytest.raises(SilentError):
        near.exactly(1000, 0.3)
    stop.set()
    dripping.join()
    assert time.monotonic() - start < 3


def test_what_nobody_asked_for_is_seen(ends: tuple[Wire, Wire]) -> None:
    near, far = ends
    assert not near.pending
    far.write(b"x")
    assert near.pending
    near.exactly(1, 1.0)
    assert not near.pending


@pytest.mark.parametrize("ends", [0.5], indirect=True)
def test_one_that_only_listens_is_heard_all_the_same(ends: tuple[Wire, Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    """The far end talks without a pause for longer than the limit on silence; the near end has nothing to say but beats."""
    monkeypatch.setattr(wire, "BEAT_S", 0.1)
    near, far = ends
    heard: list[int] = []

    def listen() -> None:
        while (message := near.receive()) != {"end": True}:
            heard.append(message["line"])

    listener = threading.Thread(target=listen)
    listener.start()
    for line in range(40):
        far.send({"line": line})
        far.check(0.03)
    far.send({"end": True})
    listener.join()
    assert heard == list(range(40))


@pytest.mark.parametrize("raw", [b"no json\n", b"[1]\n", b"\xff\n"])
def test_what_is_no_message_ends_it(ends: tuple[Wire, Wire], raw: bytes) -> None:
    near, far = ends
    near.write(raw)
    with pytest.raises(ClosedError, match="not a message"):
        far.receive()


def test_a_message_without_an_end_is_not_waited_for_for_ever(ends: tuple[Wire, Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_LONGEST", 1 << 16)
    near, far = ends
    writer = threading.Thread(target=lambda: near.write(b"x" * (1 << 17)))
    writer.start()
    with pytest.raises(ClosedError, match="without an end"):
        far.receive()
    writer.join()


def test_beats_are_not_messages(ends: tuple[Wire, Wire]) -> None:
    near, far = ends
    near.send(BEAT)
    near.send({"a": 1})
    assert far.receive() == {"a": 1}


def test_a_line_that_is_not_complete_yet_is_waited_for(ends: tuple[Wire, Wire]) -> None:
    near, far = ends
    near.write(b'{"a"')
    start = time.monotonic()
    assert far.line(0.1) is None
    assert time.monotonic() - start >= 0.1
    near.write(b": 1}\n")
    assert far.receive() == {"a": 1}
