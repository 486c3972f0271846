"""The device's lock, between real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devices.worker import lock as lock_module
from devices.worker.lock import DeviceLock, boot_id, lock_path

HOLD = "import sys; from pathlib import Path; from devices.worker.lock import DeviceLock\nlock = DeviceLock(Path(sys.argv[1]))\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def other(path: Path, code: str) -> subprocess.Popen[bytes]:
    """Another process that ran `code` with `lock`, and said a line."""
    process = subprocess.Popen([sys.executable, "-c", HOLD + code, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_one_holds_it_and_others_learn_who(path: Path) -> None:
    holder = other(path, "lock.acquire('eve@laptop', 'job 1'); print(flush=True); sys.stdin.read(); lock.release(); print(flush=True)")
    lock = DeviceLock(path)
    busy = lock.acquire("bob", "job 2")
    assert busy is not None
    assert (busy["who"], busy["token"]) == ("eve@laptop", "job 1")
    holder.communicate()
    assert lock.acquire("bob", "job 2") is None
    assert lock.left_over is None
    lock.close()


def test_a_killed_holder_frees_it_and_is_named(path: Path) -> None:
    holder = other(path, "lock.acquire('eve@laptop', 'job 1'); print(flush=True); sys.stdin.read()")
    holder.kill()
    holder.wait()
    lock = DeviceLock(path)
    assert lock.acquire("bob", "job 2") is None
    assert lock.left_over == "eve@laptop (its process is gone)"
    lock.close()


def test_a_forked_process_keeps_it_after_the_first_is_gone(path: Path) -> None:
    code = (
        "import os, time; lock.acquire('eve', 'job 1'); child = os.fork()\n"
        "if child == 0: time.sleep(600)\nprint(child, flush=True); os._exit(0)"
    )
    process = subprocess.Popen([sys.executable, "-c", HOLD + code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.wait()
    lock = DeviceLock(path)
    assert lock.acquire("bob", "job 2") is not None
    os.kill(child, signal.SIGKILL)
    while lock.acquire("bob", "job 2") is not None:
        pass
    lock.close()


@pytest.mark.parametrize("text", ["", "{", "[1]", json.dumps({"who": 3}), "\xff" * 9000])
def test_whatever_its_file_says_a_free_lock_is_free(path: Path, text: str) -> None:
    path.write_text(text)
    lock = DeviceLock(path)
    assert lock.acquire("bob", "job 2") is None
    said = json.loads(path.read_text())
    assert (said["who"], said["token"], said["boot_id"]) == ("bob", "job 2", boot_id())
    lock.release()
    assert path.read_text() == "{}"
    lock.close()


def test_nobody_else_may_open_it_and_no_link_is_followed(path: Path) -> None:
    before = os.umask(0)
    try:
        DeviceLock(path).close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        DeviceLock(path)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of this machine's own: a runtime folder of nobody, a cache folder in `tmp_path`."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(lock_module, "LOGINS", tmp_path / "run")
    return tmp_path


def made(folder: Path, mode: int = 0o700) -> Path:
    folder.mkdir(parents=True)
    folder.chmod(mode)
    return folder


def test_it_lies_in_a_folder_of_the_user_alone(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names one; else where a login has it; else in the cache, made and closed to others."""
    own = folders / "cache" / "edge-harness"
    assert lock_path() == own / "edge-harness.lock"
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)
    assert lock_path().parent.stat().st_mode & 0o077 == 0
    login = made(folders / "run" / str(os.getuid()))
    assert lock_path() == login / "edge-harness.lock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(login))
    assert lock_path() == login / "edge-harness.lock", "with the variable and without it, one lock"


@pytest.mark.parametrize("wrong", ["absent", "open to others", "of another user"])
def test_a_runtime_folder_that_others_may_write_to_is_not_taken(folders: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    named = folders / "named"
    if wrong != "absent":
        made(named, 0o777 if wrong == "open to others" else 0o700)
    if wrong == "of another user":
        monkeypatch.setattr(lock_module, "_owner", lambda folder: os.getuid() + (folder == named))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(named))
    assert lock_path().parent == folders / "cache" / "edge-harness"


def test_two_runs_of_one_user_exclude_each_other(folders: Path) -> None:
    """Each finds the lock by itself."""
    first, second = DeviceLock(), DeviceLock()
    assert first.acquire("one", "job 1") is None
    assert (second.acquire("two", "job 2") or {})["who"] == "one"
    first.close()
    assert second.acquire("two", "job 2") is None
    second.close()


def test_a_user_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a container runs a process: a number, no name. It was a fault of this program."""

    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(lock_module, "LOGINS", tmp_path)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(FileNotFoundError, match="no home folder: set HOME or XDG_CACHE_HOME"):
        lock_path()
