"""Engines on a device that is reached by SSH, and every fault on the way: planted for real, in a real server and real processes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sshd
from quick_engines import ENGINE, Linear, Said, left, opened, processes, run, wanted

from devices.host.channel import Channel
from devices.host.errors import DeviceError
from devices.host.pack import worker_archive
from devices.host.preflight import preflight
from devices.host.session import EngineError, EngineId
from devices.host.station import Station
from devices.host.transports import connect, openssh, ssh
from devices.host.transports.ssh import user_name
from devices.worker.kept import MOST_BYTES
from devices.worker.spec import SPEC

pytestmark = pytest.mark.slow(60)

BIG = 12 << 20
MOUNT = shutil.which("mount")


@pytest.fixture
def device(board: sshd.Board) -> sshd.Board:
    board.start()
    return board


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "sent"
    place.mkdir()
    (place / "big.bin").write_bytes(np.random.default_rng(0).bytes(BIG))
    return place


def quiet(step: str, done: int, total: int) -> None:
    pass


def never(step: str, done: int, total: int) -> None:
    assert step != "upload", f"{total} bytes were sent"


def jobs(board: sshd.Board) -> list[Path]:
    return list((board.cache / "jobs").iterdir())


# A whole run


def test_an_engine_runs_there_and_leaves_nothing_but_the_store(
    device: sshd.Board, linear: Linear, session_of: Any, images: np.ndarray
) -> None:
    with session_of(linear.path, device.profile()) as session:
        np.testing.assert_allclose(session.logits(images), linear.logits(images), atol=1e-5)
        assert abs(session.loaded.environment["clock_skew_s"]) < 5
        assert session.loaded.environment["emulator"] is None
        assert len(jobs(device)) == 1
    assert jobs(device) == []
    assert left(device.cache) == []
    assert device.lock.read_text() == "{}"
    assert {path.stat().st_mode & 0o777 for path in (device.cache / "jobs", device.cache / "store")} == {0o700}


def test_a_second_run_sends_nothing(device: sshd.Board, linear: Linear, session_of: Any, tmp_path: Path) -> None:
    """From another run folder: the same artefact and worker; only what differs between the engines travels."""
    with session_of(linear.path, device.profile()):
        pass
    shutil.copytree(tmp_path / "engines", tmp_path / "again")
    with connect(device.profile()) as transport:
        transport.put(tmp_path / "again", never)
    sent: list[int] = []
    with Station(device.profile(), tmp_path / "again", seed=1) as station:
        station.send({ENGINE: wanted(linear.path)}, lambda step, _, total: sent.append(total))
    assert set(sent) == {(tmp_path / "again" / "linear" / SPEC).stat().st_size}


def test_a_folder_may_be_sent_again_while_the_device_is_held(
    device: sshd.Board, linear: Linear, tmp_path: Path, images: np.ndarray
) -> None:
    """With one engine more, as when another is built."""
    (tmp_path / "engines").mkdir()
    first, second = ENGINE, EngineId("linear", 1)
    with Station(device.profile(), tmp_path / "engines", seed=0) as station:
        for engines in ([first], [first, second]):
            station.send(dict.fromkeys(engines, wanted(linear.path)), quiet)
            with station.session(engines[-1], quiet) as session:
                np.testing.assert_allclose(session.logits(images), linear.logits(images), atol=1e-5)
    assert jobs(device) == []


def test_text_of_a_login_script_is_no_message(board: sshd.Board, tmp_path: Path) -> None:
    (tmp_path / "greeting").write_text("echo Welcome; echo '{\"edge\": 1}'\n")
    board.variables["BASH_ENV"] = str(tmp_path / "greeting")
    board.start()
    with connect(board.profile()) as transport:
        assert transport.facts().machine == os.uname().machine


@pytest.mark.parametrize(
    ("script", "missed"), [("exec sleep 9", "nothing came for 2 s"), ("yes | head -600", "500 lines of other text came")]
)
def test_a_login_that_never_reaches_the_agent_is_told(
    board: sshd.Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, missed: str
) -> None:
    """It was said that the board cannot be reached."""
    monkeypatch.setattr(openssh, "HELLO_S", 2.0)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".bashrc").write_text(f"{script}\n")
    board.variables["HOME"] = str(tmp_path / "home")
    board.start()
    with connect(board.profile()) as transport, pytest.raises(DeviceError, match=f"{missed}, and ssh says nothing. Does a login script"):
        transport.facts()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo Only git here; exit 0", r"its login ended before the agent spoke, without an error \(Only git here\). Does this key"),
        ("exit 0", r"its login ended before the agent spoke, without an error \(no message\)"),
        ("echo This account is closed; exit 1", "the agent ended with exit code 1: This account is closed"),
    ],
)
def test_a_login_that_ends_before_the_agent_speaks_is_told(board: sshd.Board, tmp_path: Path, script: str, told: str) -> None:
    """A forced command, or a shell that lets nobody in: it was said that the board cannot be reached, and that ssh has no message."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".bashrc").write_text(f"{script}\n")
    board.variables["HOME"] = str(tmp_path / "home")
    board.start()
    with connect(board.profile()) as transport, pytest.raises(DeviceError, match=told):
        transport.facts()


@pytest.mark.parametrize("text", ["echo Welcome", 'echo \'{"status": "crashed"}\'', "printf 'no end '", "printf '\\033]0;title\\007'"])
def test_text_of_a_login_script_is_no_answer_of_an_engine(board: sshd.Board, linear: Linear, tmp_path: Path, text: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".bashrc").write_text(f"{text}\n")
    board.variables["HOME"] = str(tmp_path / "home")
    board.start()
    images = np.zeros((3, 4, 4, 3), np.uint8)
    with opened(tmp_path / "run", {ENGINE: wanted(linear.path)}, board.profile()) as sessions:
        np.testing.assert_allclose(sessions[ENGINE].logits(images), linear.logits(images), atol=1e-5)


def test_the_command_of_python_may_have_words_and_awkward_names(board: sshd.Board, tmp_path: Path) -> None:
    odd = tmp_path / "it's; $(touch hacked)"
    odd.symlink_to(sys.executable)
    board.start()
    with connect(board.profile(python=f'env ODD=1 "{odd}" -X utf8')) as transport:
        assert transport.facts().cpus >= 1
    assert not (Path.home() / "hacked").exists()


# The connection drops


def test_an_upload_goes_on_where_the_connection_dropped(device: sshd.Board, folder: Path, said: list[str]) -> None:
    steps: list[tuple[int, int]] = []
    dropped: list[int] = []

    def drop_once(_: str, done: int, total: int) -> None:
        steps.append((done, total))
        if not dropped and done > BIG * 2 // 3:
            dropped.append(done)
            device.drop()

    with connect(device.profile(), said.append) as transport:
        there = transport.put(folder, drop_once)
        lines = run(transport, there, "import hashlib; print(hashlib.sha256(open('big.bin', 'rb').read()).hexdigest())")[1]
    assert lines == [ssh.sha256_file(folder / "big.bin")]
    assert said == ["the connection to board was lost; trying again for up to 300 s"]
    assert {total for _, total in steps} == {BIG}
    resumed = min(done for done, _ in steps[steps.index((dropped[0], BIG)) + 1 :])
    assert resumed > BIG // 4, "what had arrived was not sent again"
    assert steps[-1] == (BIG, BIG)


def test_a_device_that_stays_away_is_an_error_that_says_how_to_go_on(
    device: sshd.Board, linear: Linear, session_of: Any, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "RECONNECT_S", 1.0)
    with session_of(linear.path, device.profile()) as session:
        session.logits(images)
        device.stop()
        with pytest.raises(DeviceError, match=r"board cannot be reached: is it on.*Connection refused.*go on with --resume"):
            session.logits(images)
        with pytest.raises(ValueError, match="is closed"):
            session.logits(images)


def test_a_device_that_restarts_costs_one_request(device: sshd.Board, linear: Linear, session_of: Any, images: np.ndarray) -> None:
    with session_of(linear.path, device.profile()) as session:
        before = session.logits(images)
        device.reboot()
        assert np.array_equal(session.logits(images), before)
        assert session.cost.requests == 2


def test_an_engine_that_ends_the_connection_each_time_is_an_error(
    device: sshd.Board, linear: Linear, session_of: Any, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session_of(linear.path, device.profile()) as session:
        ask = session._request

        def drop_and_ask(*words: Any) -> Any:
            device.drop()
            return ask(*words)

        monkeypatch.setattr(session, "_request", drop_and_ask)
        with pytest.raises(DeviceError, match=r"lost twice during one request .*Go on with --resume"):
            session.logits(images)
    assert left(device.cache) == []


def test_a_connection_that_drops_while_an_engine_loads_is_opened_again(
    device: sshd.Board, linear: Linear, tmp_path: Path, images: np.ndarray
) -> None:
    """A TensorRT engine may be built for half an hour; twice is an error that says how to go on."""
    (tmp_path / "engines").mkdir()
    with Station(device.profile(), tmp_path / "engines", seed=0) as station:
        station.send({ENGINE: wanted(linear.path)}, quiet)
        for drops in (1, 2):
            session = station.session(ENGINE, quiet)
            session.open = dropping(session.open, device, drops)
            if drops == 1:
                with session:
                    np.testing.assert_allclose(session.logits(images), linear.logits(images), atol=1e-5)
            else:
                with pytest.raises(DeviceError, match=r"lost twice while linear was loaded .*Go on with --resume"), session:
                    pass
    assert left(device.cache) == []


def dropping(start: Callable[[], Channel], device: sshd.Board, drops: int) -> Callable[[], Channel]:
    """`start`, which loses the connection as soon as it is there, so often."""
    left_to_do = [None] * drops

    def begin() -> Channel:
        channel = start()
        if left_to_do:
            left_to_do.pop()
            device.drop()
        return channel

    return begin


def test_an_ssh_client_that_is_killed_here_is_a_lost_connection_and_no_crash(
    device: sshd.Board, linear: Linear, session_of: Any, images: np.ndarray
) -> None:
    """The engine there did nothing wrong: it was accused of lacking memory."""
    with session_of(linear.path, device.profile()) as session:
        before = session.logits(images)
        session._channel._process.kill()
        assert np.array_equal(session.logits(images), before)


def test_an_ssh_client_of_the_agent_that_is_killed_here_is_started_again(device: sshd.Board, folder: Path) -> None:
    with connect(device.profile()) as transport:
        transport.facts()
        transport._session._process.kill()  # type: ignore[attr-defined]
        transport.put(folder, quiet)
        assert len(jobs(device)) == 1


def test_a_harness_that_is_killed_leaves_no_engine_and_the_next_run_sends_nothing(
    device: sshd.Board, linear: Linear, session_of: Any, images: np.ndarray, tmp_path: Path
) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom quick_engines import *\nfrom dataclasses import replace\n"
        f"profile = replace(load_profile('host'), transport='ssh', host='board', python={device.python!r})\n"
        f"with opened(Path({str(tmp_path / 'engines')!r}), {{ENGINE: wanted(Path({str(linear.path)!r}))}}, profile):\n"
        "    print('open', flush=True); sys.stdin.read()"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])}
    killed = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=path, start_new_session=True
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"open\n"
    assert len(processes(device.cache)) >= 1
    killed.kill()
    killed.wait()
    assert left(device.cache) == []
    with connect(device.profile()) as transport:
        transport.put(tmp_path / "engines", never)
    with session_of(linear.path, device.profile()) as session:
        np.testing.assert_allclose(session.logits(images), linear.logits(images), atol=1e-5)


# Disk, clock, machine


def test_a_full_disk_is_told_before_anything_is_sent(board: sshd.Board, folder: Path) -> None:
    with tiny_disk(board):
        board.start()
        with (
            connect(board.profile()) as transport,
            pytest.raises(DeviceError, match=r"disk is full: \d MiB free at .*, 12 MiB needed. Make room"),
        ):
            transport.put(folder, never)
        board.stop()


def test_a_disk_that_is_full_when_an_engine_writes_is_told(board: sshd.Board, linear: Linear, session_of: Any) -> None:
    with tiny_disk(board):
        board.start()
        with session_of(linear.path, board.profile()) as session:
            with contextlib.suppress(OSError), (board.cache / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 12))
            with pytest.raises(EngineError, match=r"(?i)no space left|failed|write") as caught:
                session.call({"op": "evidence"}, Said)
            assert caught.value.status in ("crashed", "refused")
            assert "Traceback" not in str(caught.value)
        board.stop()


def test_a_disk_that_has_no_room_for_the_agent_is_told(board: sshd.Board) -> None:
    with tiny_disk(board):
        (board.cache / "filler").write_bytes(bytes(8 << 20))
        board.start()
        with connect(board.profile()) as transport, pytest.raises(DeviceError, match=r"exit code 1: cannot keep .*No space left on device"):
            transport.facts()
        board.stop()


def test_files_that_nobody_needs_make_room(board: sshd.Board, tmp_path: Path) -> None:
    with tiny_disk(board):
        board.start()
        for number in range(3):
            place = tmp_path / str(number)
            place.mkdir()
            (place / "data").write_bytes(np.random.default_rng(number).bytes(5 << 20))
            with connect(board.profile()) as transport:
                assert run(transport, transport.put(place, quiet), "import os; print(os.path.getsize('data'))")[1] == [str(5 << 20)]
        board.stop()


def test_the_store_says_when_it_had_reached_its_limit(device: sshd.Board, folder: Path, said: list[str]) -> None:
    old = device.cache / "store" / ("0" * 64)
    old.parent.mkdir(parents=True)
    with old.open("wb") as file:
        file.truncate(MOST_BYTES)  # of nothing: a sparse file
    os.utime(old, (0, 0))
    with connect(device.profile(), said.append) as transport:
        transport.put(folder, quiet)
    assert not old.exists()
    assert said == ["the store on the device had reached its limit; thrown away there, the longest unused first: 1 of its files, 4096 MiB"]


def test_a_device_is_cleaned_and_what_is_in_use_stays(
    device: sshd.Board, linear: Linear, session_of: Any, images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (device.cache / "engines" / "plan-1").mkdir(parents=True)
    (device.cache / "engines" / "plan-1" / "engine.plan").write_bytes(bytes(1 << 20))
    waited: list[str] = []
    cleaned: list[Any] = []

    def clean() -> None:
        with connect(device.profile(), waited.append) as transport:
            cleaned.append(transport.clean())

    other = threading.Thread(target=clean)
    with session_of(linear.path, device.profile()) as session:
        other.start()
        while not waited:
            time.sleep(0.05)
        np.testing.assert_allclose(session.logits(images), linear.logits(images), atol=1e-5)
        assert not cleaned and "is in use by" in waited[0]
    other.join()
    assert cleaned[0].removed == {"store": 2, "jobs": 0, "engines": 1} and cleaned[0].freed_bytes > 1 << 20
    assert [path.name for path in device.cache.rglob("*") if path.is_file()] == [hashlib.sha256(worker_archive()).hexdigest()]
    with session_of(linear.path, device.profile()) as session:
        np.testing.assert_allclose(session.logits(images), linear.logits(images), atol=1e-5)


@contextlib.contextmanager
def tiny_disk(board: sshd.Board) -> Iterator[None]:
    """The device's cache folder on a disk of 8 MiB."""
    board.cache.mkdir(parents=True)
    mounted = MOUNT and subprocess.run([MOUNT, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(board.cache)], capture_output=True, check=False)
    if not mounted or mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(board.cache)], check=True)


def test_a_wrong_clock_is_told_and_changes_nothing(
    board: sshd.Board, linear: Linear, session_of: Any, images: np.ndarray, tmp_path: Path, said: list[str]
) -> None:
    plant(board, tmp_path, "import time\nreal = time.time\ntime.time = lambda: real() - 1e9\n")
    board.start()
    assert preflight(board.profile(), said.append).machine == platform.machine()
    assert said == ["the clock of host is 1000000000 s behind this machine's; the record keeps it, nothing depends on it"]
    with session_of(linear.path, board.profile()) as session:
        np.testing.assert_allclose(session.logits(images), linear.logits(images), atol=1e-5)
        assert session.loaded.environment["clock_skew_s"] == pytest.approx(-1e9, abs=5)


def test_another_kind_of_machine_is_refused_before_anything_is_sent(device: sshd.Board, folder: Path) -> None:
    profile = device.profile("jetson-nano")
    with connect(profile) as transport, pytest.raises(DeviceError, match=r"board is x86_64, but jetson-nano is aarch64\. No job was sent"):
        transport.put(folder, never)
    assert jobs(device) == []


def test_an_emulator_shows_itself(board: sshd.Board, tmp_path: Path, said: list[str]) -> None:
    qemu = shutil.which("qemu-x86_64-static")
    if qemu is None:
        pytest.skip("qemu-x86_64-static is not installed")
    board.start()
    profile = board.profile(python=f"{qemu} -cpu Nehalem {Path(sys.executable).resolve()}")
    assert not profile.emulated
    assert preflight(profile, said.append).emulated
    assert re.fullmatch(r"host runs under an emulator \(qemu-x86_64.*\): latency and memory are withheld", said[0])


def plant(board: sshd.Board, tmp_path: Path, code: str) -> None:
    """Run some code at the start of every Python there."""
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "sitecustomize.py").write_text(code)
    board.variables["PYTHONPATH"] = str(tmp_path / "planted")


# The lock


def test_two_runs_take_turns_and_the_second_says_for_whom_it_waits(device: sshd.Board, tmp_path: Path) -> None:
    running, said, spans = threading.Event(), [], {}

    def one(name: str, say: Callable[[str], None]) -> None:
        place = tmp_path / name
        place.mkdir()
        with connect(device.profile(), say) as transport:
            there = transport.put(place, quiet)
            began = time.monotonic()
            running.set()
            run(transport, there, "import time; time.sleep(1.5)")
            spans[name] = (began, time.monotonic())

    first = threading.Thread(target=one, args=("first", print))
    first.start()
    assert running.wait(20)
    one("second", said.append)
    first.join()
    assert spans["second"][0] > spans["first"][1]
    assert len(said) == 1
    assert re.fullmatch(rf"board is in use by \w+@\S+, process {os.getpid()}; waiting for it", said[0]), said


def test_the_lock_is_held_as_long_as_the_run_lasts_however_idle_it_is(
    board: sshd.Board, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent gives it back after a silence, here of 2 s; this end says every half second that it lives."""
    plant(board, tmp_path, "import sys\nsys.path_importer_cache.clear()\n" + _SHORT_SILENCE)
    board.start()
    monkeypatch.setattr(ssh, "BEAT_S", 0.5)
    with connect(board.profile()) as transport:
        transport.put(folder, quiet)
        for _ in range(10):
            time.sleep(0.5)
            assert held(board)
    assert not held(board)
    monkeypatch.setattr(ssh, "BEAT_S", 600.0)
    with connect(board.profile()) as transport:
        transport.put(folder, quiet)
        assert held(board)
        stop = time.monotonic() + 20
        while held(board) and time.monotonic() < stop:
            time.sleep(0.1)
        assert not held(board), "the limit on silence was not as short as this test takes it to be"


# The agent's own module, as soon as it is imported there, hears of a shorter limit.
_SHORT_SILENCE = """
import importlib.abc

class Short(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "devices.worker.agent":
            import devices.worker.wire as wire
            wire.SILENCE_S = 2.0

sys.meta_path.insert(0, Short())
"""


def held(board: sshd.Board) -> bool:
    """Whether somebody has the device's lock."""
    with board.lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_a_lock_of_a_run_that_is_gone_is_taken_over(device: sshd.Board, folder: Path, said: list[str]) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for boot_id, why in (("another", "the device has restarted since"), (boot, "its process is gone")):
        device.lock.write_text(json.dumps({"who": "eve@laptop, process 7", "token": "f" * 32, "pid": 1, "boot_id": boot_id}))
        with connect(device.profile(), said.append) as transport:
            transport.put(folder, quiet)
        assert said.pop() == f"took over board from a run that ended without a word: eve@laptop, process 7 ({why})"
    with connect(device.profile(), said.append) as transport:
        transport.put(folder, quiet)
    assert said == [], "the last one gave it back"


def test_the_lock_is_taken_again_with_the_connection(device: sshd.Board, linear: Linear, session_of: Any, images: np.ndarray) -> None:
    with session_of(linear.path, device.profile()) as session:
        session.logits(images)
        device.drop()
        session.logits(images)
        time.sleep(2 * ssh.BEAT_S)
        assert held(device)
    assert not held(device)


# Bytes that change


def test_an_upload_that_was_damaged_is_sent_again(device: sshd.Board, folder: Path, said: list[str]) -> None:
    sha256 = ssh.sha256_file(folder / "big.bin")

    def damage_once(_: str, done: int, total: int) -> None:
        if not said and done > BIG // 2:
            part = device.cache / "store" / f"{sha256}.part"
            device.drop()
            time.sleep(0.5)
            with part.open("r+b") as file:
                file.write(b"damage")

    with connect(device.profile(), said.append) as transport:
        there = transport.put(folder, damage_once)
        lines = run(transport, there, "import hashlib; print(hashlib.sha256(open('big.bin', 'rb').read()).hexdigest())")[1]
    assert lines == [sha256]
    assert re.match(r"bytes changed on the way to or from board \(on the device: sha256 \w{12}…, expected", said[-1])


def test_a_stored_file_that_changed_is_sent_again(device: sshd.Board, folder: Path) -> None:
    with connect(device.profile()) as transport:
        transport.put(folder, quiet)
    stored = device.cache / "store" / ssh.sha256_file(folder / "big.bin")
    stored.chmod(0o600)
    with stored.open("r+b") as file:
        file.write(b"damage")
    sent: list[int] = []
    with connect(device.profile()) as transport:
        transport.put(folder, lambda _, done, total: sent.append(total))
    assert set(sent) == {BIG}
    assert ssh.sha256_file(stored) == stored.name


# Ctrl-C


def test_an_interrupt_gives_the_lock_back(device: sshd.Board, linear: Linear, session_of: Any, images: np.ndarray) -> None:
    with pytest.raises(KeyboardInterrupt), session_of(linear.path, device.profile()) as session:
        session.logits(images)
        raise KeyboardInterrupt
    assert left(device.cache) == []
    assert not held(device) and device.lock.read_text() == "{}"
    with session_of(linear.path, device.profile()) as session:
        np.testing.assert_allclose(session.logits(images), linear.logits(images), atol=1e-5)


# Who is not let in, and why


def spoil_unknown(board: sshd.Board) -> None:
    (board.folder / "known_hosts").write_text("")


def spoil_changed(board: sshd.Board) -> None:
    board.know("other_key")


def spoil_key(board: sshd.Board) -> None:
    shutil.copy(board.folder / "other_key", board.folder / "user_key")
    shutil.copy(board.folder / "other_key", board.folder / "id")
    board.config.write_text(board.config.read_text().replace("user_key", "id"))
    (board.folder / "id").chmod(0o600)


def spoil_name(board: sshd.Board) -> None:
    board.config.write_text(board.config.read_text().replace("HostName 127.0.0.1", "HostName no-such-host.invalid"))


def spoil_config(board: sshd.Board) -> None:
    board.config.write_text("Nonsense yes\n")


def spoil_server(board: sshd.Board) -> None:
    board.stop()


REFUSALS: dict[Callable[[sshd.Board], None], str] = {
    spoil_changed: r"host key is not the one that is known.*another machine answers in its place.*ssh-keygen -lf .*ssh-keygen -R",
    spoil_unknown: r"host key is not known yet\. Log in once by hand \(ssh board\), compare the fingerprint",
    spoil_key: r"accepts no key of yours.*ssh-copy-id board",
    spoil_name: r"that name leads nowhere.*~/\.ssh/config.*--host USER@ADDRESS",
    spoil_config: r"your ssh configuration is not accepted",
    spoil_server: r"is it on, in this network, and does its SSH server run.*Connection refused",
}


@pytest.mark.parametrize("spoil", REFUSALS, ids=lambda spoil: spoil.__name__)
def test_who_cannot_log_in_is_told_why_and_what_to_do(device: sshd.Board, spoil: Callable[[sshd.Board], None]) -> None:
    spoil(device)
    with connect(device.profile()) as transport, pytest.raises(DeviceError, match=REFUSALS[spoil]) as error:
        transport.facts()
    assert "\n" not in str(error.value)
    assert not device.cache.exists(), "nothing was sent"


def test_the_hint_to_install_a_key_works_for_an_address_with_a_port(device: sshd.Board, tmp_path: Path) -> None:
    """ssh-copy-id takes no ssh://, and a user and a port apart."""
    spoil_key(device)
    profile = replace(device.profile(), host=f"ssh://{user_name()}@{sshd.HOST}:{device.port}")
    with connect(profile) as transport, pytest.raises(DeviceError) as error:
        transport.facts()
    command = re.search(r"ssh-copy-id .*?(?=\. ssh says)", str(error.value))
    assert command is not None and command[0] == f"ssh-copy-id -p {device.port} {user_name()}@{sshd.HOST}"
    program, *words = shlex.split(command[0])
    hint = [program, "-n", "-i", str(device.folder / "other_key.pub"), "-F", str(device.config), *words]
    (tmp_path / ".ssh").mkdir()
    tried = subprocess.run(
        hint, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert tried.returncode == 0 and "Would have added" in tried.stdout, tried.stderr


@pytest.mark.parametrize(
    ("host", "login", "alias"),
    [
        ("board", "board", "board"),
        ("me@board", "me@board", "board"),
        ("ssh://board", "board", "board"),
        ("ssh://me@10.0.0.7", "me@10.0.0.7", "10.0.0.7"),
        ("ssh://me@10.0.0.7:2222/", "-p 2222 me@10.0.0.7", "10.0.0.7"),
        ("ssh://me@[fe80::1]:2222", "-p 2222 me@fe80::1", "fe80::1"),
        ("me@fe80::1%eth0", "me@fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_the_parts_of_an_address(host: str, login: str, alias: str) -> None:
    assert openssh._parts(host) == {"login": login, "alias": alias}


def test_a_port_belongs_into_an_address(device: sshd.Board) -> None:
    for host in ("board:22", "me@board:2222"):
        with pytest.raises(DeviceError, match=rf"'{host}' has a port, which goes into an address only: ssh://{host}$"):
            connect(replace(device.profile(), host=host))


def test_host_keys_are_checked_whatever_the_users_configuration_says(device: sshd.Board) -> None:
    device.know("other_key")
    device.config.write_text("StrictHostKeyChecking no\n" + device.config.read_text())
    with connect(device.profile()) as transport, pytest.raises(DeviceError, match="host key is not the one"):
        transport.facts()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-python", "no-such-python cannot be run there.*sudo apt-get install -y python3.*python = "),
        ("false", "the agent ended with exit code 1"),
    ],
)
def test_a_python_that_is_not_there_is_named(device: sshd.Board, command: str, message: str) -> None:
    with connect(device.profile(python=command)) as transport, pytest.raises(DeviceError, match=message):
        transport.facts()


def test_an_old_python_is_refused_with_its_remedy(board: sshd.Board, tmp_path: Path) -> None:
    plant(board, tmp_path, "import sys\nsys.version_info = (3, 8, 10, 'final', 0)\n")
    board.start()
    with connect(board.profile()) as transport, pytest.raises(DeviceError, match=r"is Python 3\.8\.10; the worker needs 3\.10") as caught:
        transport.facts()
    command, _, profile = str(caught.value).partition(", then write ")
    assert "uv venv --seed --python 3.10 ~/edge-harness-python" in command
    assert profile == 'python = "~/edge-harness-python/bin/python" into the device\'s profile'


@pytest.mark.parametrize("host", ["-oProxyCommand=touch hacked", "", "a b", "me@host;ls", "$(ls)", "ü", "host\n"])
def test_a_host_cannot_be_an_option_or_a_command(device: sshd.Board, host: str) -> None:
    with pytest.raises(DeviceError, match=r"is no host; expected USER@ADDRESS"):
        connect(replace(device.profile(), host=host) if host else replace(device.profile(), host=" "))
