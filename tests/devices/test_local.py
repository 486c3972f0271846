from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from devices.process import LINE_LENGTH, STDERR_LINES, Exit

from devices.host.errors import DeviceError
from devices.host.transports.local import Local

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
"""
FOREVER = PARENT + "time.sleep(600)"


def python(code: str, folder: Path, silence_s: float = 30.0) -> tuple[Exit, list[str]]:
    lines: list[str] = []
    return Local().run([sys.executable, "-c", code], str(folder), lines.append, silence_s), lines


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead but not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    stop = time.monotonic() + 5
    while alive(pid) and time.monotonic() < stop:
        time.sleep(0.01)
    return not alive(pid)


def test_lines_exit_code_and_folder(tmp_path: Path) -> None:
    ended, lines = python("import os, sys; print(os.getcwd()); print('two'); print('oh', file=sys.stderr); sys.exit(3)", tmp_path)
    assert (lines, ended) == ([str(tmp_path), "two"], Exit(3, False, ("oh",)))


def test_a_signal_is_a_negative_code(tmp_path: Path) -> None:
    assert python("import os; os.abort()", tmp_path)[0].code == -signal.SIGABRT


def test_lines_come_while_the_command_runs(tmp_path: Path) -> None:
    arrived: list[float] = []
    Local().run(
        [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(0.5); print(2)"],
        str(tmp_path),
        lambda _: arrived.append(time.monotonic()),
        30,
    )
    assert arrived[1] - arrived[0] > 0.3


def test_much_standard_error_does_not_block_and_its_end_is_kept(tmp_path: Path) -> None:
    ended, _ = python("import sys\nfor i in range(20000): print(i, 'x' * 1000, file=sys.stderr)", tmp_path)
    assert (ended.code, len(ended.stderr)) == (0, STDERR_LINES)
    assert ended.stderr[-1].startswith("19999 ")
    assert len(ended.stderr[-1]) == LINE_LENGTH


def test_a_silent_command_is_killed_with_all_it_started(tmp_path: Path) -> None:
    ended, lines = python(FOREVER, tmp_path, 1.0)
    assert (ended.hung, ended.code) == (True, -signal.SIGKILL)
    assert gone(int(lines[0]))


def test_a_command_that_closed_its_output_but_never_ends_is_killed(tmp_path: Path) -> None:
    ended, _ = python("import os, time; os.close(1); os.close(2); time.sleep(600)", tmp_path, 0.5)
    assert ended.hung


def test_speaking_keeps_a_long_command_alive(tmp_path: Path) -> None:
    ended, lines = python("import time\nfor i in range(15): print(i, flush=True); time.sleep(0.2)", tmp_path, 2.0)
    assert (ended.code, ended.hung, len(lines)) == (0, False, 15)


def test_a_child_left_behind_at_the_end_is_killed(tmp_path: Path) -> None:
    left = PARENT.replace("])", "], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)")
    ended, lines = python(left, tmp_path)
    assert (ended.code, ended.hung) == (0, False)
    assert gone(int(lines[0]))


def test_an_interrupt_kills_the_command_and_goes_on(tmp_path: Path) -> None:
    lines: list[str] = []

    def interrupt(line: str) -> None:
        lines.append(line)
        threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with SIGINT ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            Local().run([sys.executable, "-c", FOREVER], str(tmp_path), interrupt, 30)
    finally:
        signal.signal(signal.SIGINT, before)
    assert gone(int(lines[0]))


def test_killing_one_command_leaves_its_neighbour(tmp_path: Path) -> None:
    ends: dict[str, Exit] = {}
    steady = "import time\nfor i in range(12): print(i, flush=True); time.sleep(0.2)"
    threads = [
        threading.Thread(target=lambda name=name, code=code: ends.update({name: python(code, tmp_path, 1.5)[0]}))
        for name, code in (("hung", FOREVER), ("steady", steady))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (ends["hung"].hung, ends["steady"]) == (True, Exit(0, False, ()))


def test_a_command_that_is_not_there_is_a_device_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cannot run no-such-python"):
        Local().run(["no-such-python"], str(tmp_path), print, 1)


def test_folders_stay_in_place_or_are_copied(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    local = Local()
    there = local.put(tmp_path / "a")
    local.get(there, tmp_path / "a")
    local.get(there, tmp_path / "b")
    assert (tmp_path / "b" / "x").read_text() == "1"
