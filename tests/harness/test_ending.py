"""How the program ends: every exit code by its exact value, and output that nobody takes or that cannot be written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from devices.host.channel import Exit
from devices.host.errors import DeviceError
from export.errors import ExportError
from harness.ending import end_well
from harness.errors import UntrustedError, UsageError
from harness.fleet.run import Entry, FleetRecord, Member
from harness.run import RunFolder

pytestmark = pytest.mark.slow(30)

CODES = {
    "usage": (UsageError("no"), 2),
    "export": (ExportError("no"), 2),
    "untrusted": (UntrustedError("no"), 3),
    "device": (DeviceError("no"), 4),
    "no such file": (FileNotFoundError(errno.ENOENT, "no", "x"), 2),
    "full disk": (OSError(errno.ENOSPC, "no"), 2),
    "device file": (OSError(errno.EIO, "no"), 70),
    "zero": (ZeroDivisionError("no"), 70),
    "memory": (MemoryError(), 2),
    "memory of PyTorch": (RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you"), 2),
    "memory of oneDNN": (RuntimeError("could not create a primitive"), 2),
    "memory of the system": (OSError(errno.ENOMEM, "no"), 2),
    "memory of a library": (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 2),
    "another of oneDNN": (RuntimeError("could not create a primitive descriptor"), 70),
    "depth": (RecursionError("no"), 70),
    "cut file": (EOFError("no"), 70),
    "assertion": (AssertionError("no"), 70),
    "interrupted": (KeyboardInterrupt(), 130),
    "broken pipe": (BrokenPipeError(errno.EPIPE, "no"), 141),
    "text": (SystemExit("no"), 70),
    "claim fails": (typer.Exit(1), 1),
    "well": (typer.Exit(0), 0),
}


@pytest.mark.parametrize("case", CODES)
def test_every_ending_has_its_exit_code(case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised within a real command: typer turns some of them into exit code 1, the one for a claim that fails."""
    error, expected = CODES[case]
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def command() -> None:
        raise error

    assert end_well(lambda: app(args=[]), debug=False) == expected
    said = capsys.readouterr().err
    assert ("Traceback" in said) == (expected == 70 and case != "text")
    if expected == 70 and case != "text":
        assert "a fault of this program, not of your input" in said
    assert ("no memory is left for this program" in said) == case.startswith("memory")


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([0, 0], 0), ([0, 3], 3), ([0, 70], 70), ([0, -9], 70), ([0, 130], 130), ([70, 1], 1), ([4, 70], 4), ([None, 0], 4), ([0, 120], 70)],
)
def test_a_fleet_ends_as_its_gravest_member(codes: list[int | None], expected: int) -> None:
    members = [Entry(member=Member(name="host"), folder=str(i), exit_code=code) for i, code in enumerate(codes)]
    assert FleetRecord(created="", command=[], settings={}, members=members).exit_code == expected


def start(*words: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *words],
        env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background of a shell ignores it
    )  # fmt: skip


@pytest.mark.parametrize("words", [("devices", "list"), ("devices", "list", "--json"), ("models", "list")])
def test_a_reader_that_goes_away_ends_it_quietly(words: tuple[str, ...]) -> None:
    process = start(*words)
    assert process.stdout is not None
    process.stdout.close()  # before a word is written
    assert process.stderr is not None
    said = process.stderr.read()
    assert (process.wait(), said) == (141, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "1</dev/null", "2</dev/null"])
def test_streams_that_the_caller_closed_are_no_fault(closed: str, tmp_path: Path) -> None:
    """What is written to them goes nowhere, and not into a file that was given their number."""
    code = (
        "import os, sys\nfrom harness.ending import end_well\n"
        f"def command():\n    file = open({str(tmp_path / 'file')!r}, 'w')\n    os.write(1, b'native\\n')\n    os.write(2, b'native\\n')\n"
        "    print('result')\n    print('log', file=sys.stderr)\n    sys.stdin.read()\n    file.write('kept')\n    sys.exit(3)\n"
        "sys.exit(end_well(command, debug=False))"
    )
    run = f'exec "$0" -c "$1" {closed}'
    done = subprocess.run(["sh", "-c", run, sys.executable, code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, (tmp_path / "file").read_text()) == (3, "kept"), done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert sorted(done.stdout.split()) == ([] if ">&-" in closed.replace("2>&-", "") or closed.startswith("1<") else ["native", "result"])


def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "harness", "devices", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (
        2, "harness: disk: No space left on device. Make room there; what was finished is kept.\n"
    )  # fmt: skip


def test_a_limit_on_the_size_of_files_is_named(tmp_path: Path) -> None:
    """`disk: File too large` named neither a file nor what to do."""
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom harness.ending import end_well\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"sys.exit(end_well(lambda: Path({str(tmp_path / 'file')!r}).write_bytes(bytes(8192)), debug=False))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("harness: a file: File too large: this program may write none so large (ulimit -f)")


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("mount"), reason="only root can mount a small disk")
@pytest.mark.parametrize("word", ["--out={}/run", "{}"])
def test_a_full_disk_is_named_although_the_write_names_none(word: str, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path / "disk")], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    (tmp_path / "disk" / "run").mkdir()
    try:
        code = (
            "import sys\nfrom pathlib import Path\nfrom harness.ending import end_well\n"
            f"sys.exit(end_well(lambda: (Path({str(tmp_path)!r}) / 'disk/run/a').write_bytes(bytes(4 << 20)), debug=False))"
        )
        said = word.format(tmp_path / "disk")
        done = subprocess.run([sys.executable, "-c", code, said], capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)
    place = said.removeprefix("--out=")
    assert (done.returncode, done.stderr) == (
        2,
        f"harness: {place}: No space left on device. Make room there; what was finished is kept.\n",
    )


@pytest.mark.parametrize(
    "variables",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "latin-1"}],
)
def test_an_encoding_that_lacks_a_character_has_it_escaped(variables: dict[str, str]) -> None:
    process = start("devices", "show", "jetson-orin", **variables)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "60 \\u00b0C" in out or "60 \N{REPLACEMENT CHARACTER}C" in out  # Latin-1 has it, and is not what is read here
    code = 'import sys; from harness.ending import end_well; sys.exit(end_well(lambda: print(\'{"eps": "ε ≤ 𝔼 · \\udc80"}\'), debug=False))'
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"eps": "ε ≤ 𝔼 · \udc80"}


@pytest.mark.parametrize("columns", ["0", ""])
def test_a_terminal_of_no_columns_is_one_without_a_size(columns: str) -> None:
    """Tables and the verdict were empty, with the exit code of a result."""
    process = start("devices", "list", COLUMNS=columns)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "") and "jetson-orin" in out


def test_a_user_without_home_or_name_can_look_around() -> None:
    """As a container gives them to a process: a number, no entry in the list of users, no HOME."""
    code = (
        "import os, sys\n"
        "os.environ.pop('HOME', None); os.environ.pop('USER', None); os.environ.pop('LOGNAME', None)\n"
        "import pwd, getpass\n"
        "def unknown(*_): raise KeyError('no such user')\n"
        "pwd.getpwuid = unknown\n"
        "from devices.host.transports.ssh import user_name\n"
        "print(user_name(), file=sys.stderr)\n"
        "sys.argv = ['harness', *sys.argv[1:]]\n"
        "from harness.cli import main\n"
        "main()\n"
    )
    for words in (["devices", "list"], ["devices", "show", "null"], ["models", "list"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == f"user {os.getuid()}\n"


def test_ctrl_c_within_an_exec_of_text_ends_it_with_130_too(tmp_path: Path) -> None:
    """As while a dataclass is made: Python ends a module it runs by the signal itself then, whatever exit code was chosen."""
    text = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"
    (tmp_path / "stopped.py").write_text(
        "import signal, sys\nfrom harness.ending import end_well\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.exit(end_well(lambda: exec({text!r}), debug=False))\n"
    )
    paths = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    variables = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-m", "stopped"], env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "harness: interrupted\n")


def interrupted(folder: Path, body: str, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """A command of typer in which a signal arrives."""
    code = (
        "import os, sys, time, typer\nfrom harness import ending\nfrom harness.commands.interruption import going_on\n"
        "app = typer.Typer(pretty_exceptions_enable=False)\n"
        f"@app.command()\ndef command():\n    {body}\n"
        "sys.exit(ending.end_well(lambda: app(args=[]), debug=False))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE, stderr=stderr, text=True, check=False, preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    )  # fmt: skip


@pytest.mark.parametrize("within", ["", "with going_on(lambda: None): "])
def test_an_interrupt_of_what_keeps_nothing_is_told_too(within: str, tmp_path: Path) -> None:
    """It ended without a word, as if by itself."""
    done = interrupted(tmp_path, f"{within}os.kill(os.getpid(), 15); time.sleep(9)")
    assert (done.returncode, done.stderr) == (143, "harness: interrupted\n")


def test_an_interrupt_whose_words_nobody_takes_keeps_its_exit_code(tmp_path: Path) -> None:
    """`harness … 2>&1 | tee log`: Ctrl-C ends tee too, and the exit code was that of a reader who went away."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = interrupted(tmp_path, "with going_on(lambda: 'this'): os.kill(os.getpid(), 15); time.sleep(9)", stderr=writing)
    finally:
        os.close(writing)
    assert done.returncode == 143


def test_a_limit_on_cpu_time_is_an_interrupt_that_is_named(tmp_path: Path) -> None:
    """`ulimit -t`, as machines that are shared have it: it was gone without a word, and how to go on."""
    spin = "with going_on(lambda: 'this'): resource.setrlimit(resource.RLIMIT_CPU, (1, 20)); any(True for _ in iter(int, 1) if False)"
    done = interrupted(tmp_path, f"import resource\n    {spin}")
    assert (done.returncode, done.stderr) == (
        152,
        "harness: interrupted: the limit on a process's CPU time (ulimit -t) is reached. What was finished is kept; go on with: this\n",
    )
    assert "(ulimit -t)" in Exit(-signal.SIGXCPU, False, ()).in_words("") and "native code" not in Exit(
        -signal.SIGXCPU, False, ()
    ).in_words("")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_however_it_is_stopped_what_it_began_is_closed_and_a_second_time_changes_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """`kill`, `timeout` and containers send SIGTERM: folders in the temporary one stayed, and nothing was said. Typer gives 130 to all."""
    code = (
        "import os, sys, time, typer\nfrom pathlib import Path\nfrom harness import ending\n"
        "from harness.commands.interruption import going_on\n"
        "app = typer.Typer(pretty_exceptions_enable=False)\n"
        "@app.command()\ndef command():\n"
        f"    with going_on(lambda: 'this'):\n        try:\n            os.kill(os.getpid(), {int(number)})\n            time.sleep(9)\n"
        "        finally:\n            Path('closed').touch()\n"
        f"code = ending.end_well(lambda: app(args=[]), debug=False)\nos.kill(os.getpid(), {int(number)})\nsys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, check=False, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip
    assert done.stderr == "harness: interrupted. What was finished is kept; go on with: this\n"
    assert (done.returncode, (tmp_path / "closed").exists()) == (128 + number, True)


def test_a_full_disk_is_told_where_no_folder_is_left_to_name(tmp_path: Path) -> None:
    """This folder is gone, and no temporary one has room: looking for the full one must not fail itself."""
    (tmp_path / "gone").mkdir()
    code = (
        "import os, sys, tempfile\nfrom harness.ending import end_well\nos.rmdir(os.getcwd())\n"
        "def none():\n    raise FileNotFoundError(2, 'No usable temporary directory found')\n"
        "def command():\n    raise OSError(28, 'no')\n"
        "tempfile.gettempdir = none\nsys.exit(end_well(command, debug=False))"
    )
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "gone", env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "harness: disk: No space left on device. Make room there; what was finished is kept.\n")


def test_where_no_temporary_folder_can_be_written_to_that_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container without one: `disk: No such file or directory` said neither what was missing nor what to do."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/tmp", "/dev/null/here"])
    assert end_well(lambda: tempfile.mkdtemp(), debug=False) == 2
    said = capsys.readouterr().err
    assert said.startswith("harness: No usable temporary directory found in ['/dev/null/tmp', '/dev/null/here']: set TMPDIR to a folder")


def test_ctrl_c_ends_it_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start("bench", "--model", "resnet8", "--device", "null", "--samples", "256", "--out", str(out))
    stop = time.monotonic() + 120
    while not (out / "record.json").exists() and time.monotonic() < stop:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"go on with: harness bench --resume {out}" in err


@pytest.mark.parametrize("full", ["run", "temporary", "neither"])
def test_a_run_whose_temporary_files_fill_their_disk_does_not_blame_its_own(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run folder was told to be full, on a disk with room for everything."""
    for name in ("run", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(sys, "argv", ["harness"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0 if path == tmp_path / full else 1 << 40))
    with pytest.raises(OSError, match="No space") as caught, RunFolder(tmp_path / "run"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == (None if full == "neither" else str(tmp_path / full))
