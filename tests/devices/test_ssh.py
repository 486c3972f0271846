"""Jobs on a device that is reached by SSH, and every fault on the way: planted for real, in a real server and real processes."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
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

from devices.errors import DeviceError
from devices.job import Job
from devices.reach import reach
from devices.result import RESULT
from devices.run import run_job
from devices.table import read_table
from devices.transports import connect, ssh
from devices.transports.answers import Files, Listed
from devices.transports.ssh import Ssh, checked_list

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


def python(transport: Ssh | Any, there: str, code: str, on_line: Callable[[str], None] = print) -> Any:
    return transport.run([*transport.python, "-c", code], there, on_line, 60.0)


def never(step: str, done: int, total: int) -> None:
    assert step != "upload", f"{total} bytes were sent"


def jobs(board: sshd.Board) -> list[Path]:
    return list((board.cache / "jobs").iterdir())


# A whole job


def test_a_job_runs_there_and_leaves_nothing_but_the_store(
    device: sshd.Board, linear: Any, job_of: Callable[..., Job], images: np.ndarray, tmp_path: Path
) -> None:
    steps: list[str] = []
    result = run_job(device.profile(), job_of(linear.path), tmp_path / "job", lambda step, *_: steps.append(step))
    assert (result.status, result.error) == ("ok", None)
    np.testing.assert_allclose(result.outputs["clean"], linear.logits(images), atol=1e-5)
    assert sorted(result.timings) == [1, 3]
    assert steps[0] == "upload"
    assert steps[-1] == "done"
    assert abs(result.environment["clock_skew_s"]) < 5
    assert result.environment["emulator"] is None
    assert result.optimised_graph is not None
    assert (tmp_path / "job" / RESULT / result.optimised_graph).stat().st_size > 0
    assert jobs(device) == []
    assert sshd.processes(device.cache) == []
    assert {path.stat().st_mode & 0o777 for path in (device.cache / "jobs", device.cache / "store")} == {0o700}


def test_a_second_run_sends_nothing(device: sshd.Board, linear: Any, job_of: Callable[..., Job], tmp_path: Path) -> None:
    """From another run folder: the same artefact, sets and worker; only what differs between the jobs travels."""
    run_job(device.profile(), job_of(linear.path), tmp_path / "job", quiet)
    shutil.copytree(tmp_path / "job", tmp_path / "again", ignore=shutil.ignore_patterns(RESULT))
    with connect(device.profile()) as transport:
        transport.put(tmp_path / "again", never)
    sent: list[int] = []
    job = job_of(linear.path, tmp_path / "again", seed=1)
    job.save(tmp_path / "again")
    with connect(device.profile()) as transport:
        transport.put(tmp_path / "again", lambda step, _, total: sent.append(total))
    assert set(sent) == {(tmp_path / "again" / "job.json").stat().st_size}


def test_a_crash_there_is_a_result(device: sshd.Board, linear: Any, job_of: Callable[..., Job], tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_text("not a model")
    result = run_job(device.profile(), job_of(tmp_path / "bad.onnx"), tmp_path / "job", quiet)
    assert result.status == "refused"
    assert "will not load the model" in str(result.error)
    assert jobs(device) == []


def test_text_of_a_login_script_is_no_message(board: sshd.Board, tmp_path: Path) -> None:
    (tmp_path / "greeting").write_text("echo Welcome; echo '{\"edge\": 1}'\n")
    board.variables["BASH_ENV"] = str(tmp_path / "greeting")
    board.start()
    with connect(board.profile()) as transport:
        assert transport.facts().machine == os.uname().machine


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
        lines: list[str] = []
        python(transport, there, "import hashlib; print(hashlib.sha256(open('big.bin', 'rb').read()).hexdigest())", lines.append)
    assert lines == [ssh.sha256_file(folder / "big.bin")]
    assert said == ["the connection to board was lost; trying again for up to 300 s"]
    assert {total for _, total in steps} == {BIG}
    resumed = min(done for done, _ in steps[steps.index((dropped[0], BIG)) + 1 :])
    assert resumed > BIG // 4, "what had arrived was not sent again"
    assert steps[-1] == (BIG, BIG)


def test_a_command_outlives_the_connection_and_every_line_comes_once(device: sshd.Board, folder: Path, tmp_path: Path) -> None:
    code = (
        f"import time; open({str(tmp_path / 'count')!r}, 'a').write('x')\nfor i in range(12): print(i, flush=True); time.sleep(0.1)\n"
        "import os; os.mkdir('result'); open('result/end', 'w').write('done')"
    )
    lines: list[str] = []

    def drop_twice(line: str) -> None:
        lines.append(line)
        if line in ("2", "6"):
            device.drop()

    with connect(device.profile()) as transport:
        there = transport.put(folder, quiet)
        ended = python(transport, there, code, drop_twice)
        transport.get(f"{there}/result", tmp_path / "back")
    assert (ended.code, lines) == (0, [str(i) for i in range(12)])
    assert (tmp_path / "count").read_text() == "x", "it was started once"
    assert (tmp_path / "back" / "end").read_text() == "done"


def test_a_download_goes_on_where_the_connection_dropped(device: sshd.Board, folder: Path, tmp_path: Path, said: list[str]) -> None:
    part = tmp_path / ".back.part" / "a"
    offsets: list[int] = []

    def drop_when_begun() -> None:
        while not part.exists() or part.stat().st_size < BIG // 8:
            time.sleep(0.001)
        device.drop()
        offsets.append(part.stat().st_size)

    with connect(device.profile(), said.append) as transport:
        there = transport.put(folder, quiet)
        python(
            transport,
            there,
            "import os, shutil\nos.mkdir('result'); shutil.copy('big.bin', 'result/a'); shutil.copy('big.bin', 'result/b')",
        )
        thread = threading.Thread(target=drop_when_begun)
        thread.start()
        transport.get(f"{there}/result", tmp_path / "back")
        thread.join()
    assert [(tmp_path / "back" / name).read_bytes() == (folder / "big.bin").read_bytes() for name in ("a", "b")] == [True, True]
    assert said == ["the connection to board was lost; trying again for up to 300 s"]
    assert not part.exists()


def test_a_device_that_stays_away_is_an_error_that_says_how_to_go_on(
    device: sshd.Board, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "RECONNECT_S", 1.0)

    def go(line: str) -> None:
        device.stop()

    with connect(device.profile()) as transport:
        there = transport.put(folder, quiet)
        with pytest.raises(DeviceError, match=r"board cannot be reached: is it on.*Connection refused.*go on with --resume"):
            python(transport, there, "import time\nprint(1, flush=True); time.sleep(600)", go)


# The device restarts, or loses the worker


def test_a_job_is_started_again_after_a_restart(
    device: sshd.Board, linear: Any, job_of: Callable[..., Job], tmp_path: Path, said: list[str]
) -> None:
    steps: list[str] = []

    def reboot_once(step: str, done: int, total: int) -> None:
        steps.append(step)
        if step.startswith("inference") and not said:
            device.reboot()

    result = run_job(device.profile(), job_of(linear.path), tmp_path / "job", reboot_once, said.append)
    assert result.status == "ok"
    assert said[-1] == "the device restarted while the worker ran on board: it is started again"
    assert steps.count("done") == 1


def test_a_device_that_loses_the_worker_twice_is_an_error(device: sshd.Board, folder: Path, said: list[str]) -> None:
    with connect(device.profile(), said.append) as transport:
        there = transport.put(folder, quiet)
        with pytest.raises(DeviceError, match=r"restarted while the worker ran on board, twice\. \d+ MiB of its disk are free"):
            python(transport, there, "import time\nprint(1, flush=True); time.sleep(600)", lambda _: device.reboot())
    assert [line for line in said if "connection" not in line] == [
        "the device restarted while the worker ran on board: it is started again"
    ]


def test_a_harness_that_is_killed_takes_its_worker_up_again(device: sshd.Board, folder: Path, tmp_path: Path) -> None:
    code = (
        f"import time; open({str(tmp_path / 'count')!r}, 'a').write('x')\nfor i in range(10): print(i, flush=True); time.sleep(0.2)\n"
        "import os; os.mkdir('result')"
    )
    script = (
        "import sys\nfrom pathlib import Path\nfrom dataclasses import replace\n"
        "from devices.profile import load_profile\nfrom devices.transports import connect\n"
        f"t = connect(replace(load_profile('host'), transport='ssh', host='board', python={device.python!r}))\n"
        f"t.run([*t.python, '-c', {code!r}], t.put(Path({str(folder)!r}), lambda *_: None), lambda l: print(l, flush=True), 60)"
    )
    killed = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"0\n"
    killed.kill()
    killed.wait()
    lines: list[str] = []
    with connect(device.profile()) as transport:
        ended = python(transport, transport.put(folder, never), code, lines.append)
    assert (ended.code, lines) == (0, [str(i) for i in range(10)])
    assert (tmp_path / "count").read_text() == "x", "it was started once"


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


def test_a_disk_that_fills_up_during_a_job_is_told(board: sshd.Board, linear: Any, job_of: Callable[..., Job], tmp_path: Path) -> None:
    def fill(step: str, done: int, total: int) -> None:
        if step.startswith("inference") and not (board.cache / "filler").exists():
            with contextlib.suppress(OSError), (board.cache / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 12))

    with tiny_disk(board):
        board.start()
        result = run_job(board.profile(), job_of(linear.path), tmp_path / "job", fill)
        board.stop()
    assert result.status == "crashed"
    assert "No space left on device" in str(result.error)


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
                lines: list[str] = []
                python(transport, transport.put(place, quiet), "import os; print(os.path.getsize('data'))", lines.append)
            assert lines == [str(5 << 20)]
        board.stop()


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
    board: sshd.Board, linear: Any, job_of: Callable[..., Job], tmp_path: Path, said: list[str]
) -> None:
    plant(board, tmp_path, "import time\nreal = time.time\ntime.time = lambda: real() - 1e9\n")
    board.start()
    assert reach(board.profile(), said.append).machine == platform.machine()
    assert said == ["the clock of host is 1000000000 s behind this machine's; the record keeps it, nothing depends on it"]
    result = run_job(board.profile(), job_of(linear.path), tmp_path / "job", quiet)
    assert result.status == "ok"
    assert result.environment["clock_skew_s"] == pytest.approx(-1e9, abs=5)


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
    assert reach(profile, said.append).emulated
    assert re.fullmatch(r"host runs under an emulator \(qemu-x86_64.*\): latency and memory are withheld", said[0])


def plant(board: sshd.Board, tmp_path: Path, code: str) -> None:
    """Run some code at the start of every Python there."""
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "sitecustomize.py").write_text(code)
    board.variables["PYTHONPATH"] = str(tmp_path / "planted")


# The lock


def test_two_runs_take_turns_and_the_second_says_for_whom_it_waits(device: sshd.Board, tmp_path: Path) -> None:
    running, said, spans = threading.Event(), [], {}
    code = "import time; print(time.monotonic(), flush=True); time.sleep(1.5); print(time.monotonic())"

    def one(name: str, say: Callable[[str], None]) -> None:
        place = tmp_path / name
        place.mkdir()
        lines: list[str] = []

        def on_line(line: str) -> None:
            lines.append(line)
            running.set()

        with connect(device.profile(), say) as transport:
            python(transport, transport.put(place, quiet), code, on_line)
        spans[name] = [float(line) for line in lines]

    first = threading.Thread(target=one, args=("first", print))
    first.start()
    assert running.wait(20)
    one("second", said.append)
    first.join()
    assert spans["second"][0] > spans["first"][1]
    assert len(said) == 1
    assert re.fullmatch(rf"board is in use by \w+@\S+, process {os.getpid()}; waiting for it", said[0]), said


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


def test_the_worker_keeps_the_lock_when_the_connection_drops(device: sshd.Board, folder: Path, tmp_path: Path) -> None:
    """The other run starts when the work there has ended, however long it takes to reach it again."""
    waits, taken, ended = threading.Event(), [], tmp_path / "ended"
    (tmp_path / "other").mkdir()

    def second() -> None:
        with connect(device.profile(), lambda _: waits.set()) as transport:
            transport.put(tmp_path / "other", quiet)
            taken.append(time.time())

    thread = threading.Thread(target=second)

    def drop(line: str) -> None:
        if line == "0":
            thread.start()
            assert waits.wait(30)
            device.drop()

    work = f"import pathlib, time\nprint(0, flush=True)\ntime.sleep(3)\npathlib.Path({str(ended)!r}).write_text(str(time.time()))"
    with connect(device.profile()) as transport:
        python(transport, transport.put(folder, quiet), work, drop)
    thread.join(30)
    assert taken and taken[0] >= float(ended.read_text())


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
        lines: list[str] = []
        python(transport, there, "import hashlib; print(hashlib.sha256(open('big.bin', 'rb').read()).hexdigest())", lines.append)
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


def test_an_interrupt_stops_the_worker_and_gives_the_lock_back(
    device: sshd.Board, linear: Any, job_of: Callable[..., Job], tmp_path: Path
) -> None:
    def interrupt(step: str, done: int, total: int) -> None:
        if step.startswith("warm-up"):
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_job(device.profile(), job_of(linear.path), tmp_path / "job", interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sshd.processes(device.cache) == []
    assert device.lock.read_text() == "{}"
    assert run_job(device.profile(), job_of(linear.path), tmp_path / "job", quiet).status == "ok"


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
    with connect(board.profile()) as transport, pytest.raises(DeviceError, match=r"is Python 3\.8\.10; the worker needs 3\.10.*deadsnakes"):
        transport.facts()


@pytest.mark.parametrize("host", ["-oProxyCommand=touch hacked", "", "a b", "me@host;ls", "$(ls)", "ü", "host\n"])
def test_a_host_cannot_be_an_option_or_a_command(device: sshd.Board, host: str) -> None:
    with pytest.raises(DeviceError, match=r"is no host; expected USER@ADDRESS"):
        connect(replace(device.profile(), host=host) if host else replace(device.profile(), host=" "))


# What a device may offer

HASH = "0" * 64


def offer(path: Any, size: Any = 1, sha256: Any = HASH) -> dict[str, Any]:
    return {"path": path, "size": size, "sha256": sha256}


@pytest.mark.parametrize(
    "files",
    [
        *(
            [offer(path)]
            for path in ("../x", "a/../../x", "/etc/passwd", "a//b", "a/", "", ".ssh/config", "a/.b", "a\nb", "a\x00b", "~/x", "a\\b")
        ),
        [offer("a", -1)],
        [offer("a", 1 << 40)],
        [offer("a", "many")],
        [offer("a", 1, "abc")],
        [offer("a"), offer("a")],
        [offer(f"f{i}") for i in range(2000)],
        [{"path": "a"}],
        None,
        3,
    ],
)
def test_what_could_leave_the_run_folder_is_refused(files: Any) -> None:
    with pytest.raises(DeviceError, match=r"board (offers|sent)"):
        checked_list(listed(files), "board")


def listed(files: Any) -> tuple[Listed, ...]:
    """What the agent's answer to `list` is read as."""
    try:
        return read_table(Files, {"files": files}).files
    except DeviceError as error:
        raise DeviceError(f"board sent {error}") from error


def test_good_names_are_taken() -> None:
    names = ["result.json", "outputs/clean.npy", "outputs/S1_apgd-ce+x.npy", "timings/b1.npz"]
    assert [name for name, _, _ in checked_list(listed([offer(name) for name in names]), "board")] == names
