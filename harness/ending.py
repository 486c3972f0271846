"""How a command of `harness` ends: the one place where errors of every room are caught, and what becomes of output that nobody takes.

Imports no heavy library.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import gc
import io
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

from devices.host.channel import OUT_OF_CPU_TIME
from devices.host.errors import DeviceError
from devices.worker.errors import BuildError
from devices.worker.files import FULL
from export.errors import ExportError
from harness.errors import HarnessError, out_of_memory

USAGE, DEVICE_FAILED = 2, 4
INTERNAL = 70  # EX_SOFTWARE of sysexits.h: none of the answers, 0 to 4
SIGNALLED = 128  # a shell's exit code is this much and the signal's number
INTERRUPTED = SIGNALLED + signal.SIGINT
BROKEN_PIPE = SIGNALLED + signal.SIGPIPE
STOPS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGXCPU: signal.SIG_DFL,
}
"""What ends a program from outside, and what does so where nobody chose otherwise: Ctrl-C; `kill`, `timeout`, a container or a job that
is stopped; a terminal that is closed; a limit on CPU time."""

# What a path or a disk can be blamed for; any other OSError is a fault of this program.
DISK_FAULTS = (
    *FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG,
    errno.EFBIG, errno.EEXIST, errno.ELOOP,
)  # fmt: skip
FULL_BYTES = 1 << 20  # a disk with less than this is the one that a write failed on
NO_TEMPORARY = "No usable temporary directory"  # what `tempfile` says where none can be written to, or all are full
LONGEST_WORD = 4096  # of a command line, that can be a path


def end_well(command: Callable[[], object], *, debug: bool) -> int:
    """Run a command to its exit code. With `debug` an error shows its traceback; one of this program does so always."""
    stand_in_for_closed_streams()
    escape_what_cannot_be_written()
    forget_a_width_of_nothing()
    interrupt_by_a_name_of_our_own()
    try:
        code = _run(command)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it gets its own exit code
        _end_undisturbed()
        code = _code(error)
        _say(error, code, debug)
    gc.freeze()  # Python ends in a second less where it need not look for cycles in every library that was imported
    return code


def stand_in_for_closed_streams() -> None:
    """Where a caller closed standard input, output or error (`>&-`), nothing is read and what is written goes nowhere.

    Its number is taken too, else the next file that is opened has it, and what a native library prints would land in that. A shell's
    script that was started so has itself there, open to be read: what is written goes nowhere then too.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            try:
                os.fstat(number)  # a library may have opened a file meanwhile
            except OSError:
                nowhere = os.dup2(nowhere, number)
            setattr(sys, name, os.fdopen(nowhere, mode))
        elif mode == "w" and _only_to_read(number):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _only_to_read(number: int) -> bool:
    try:
        return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    except OSError:  # it is closed: standard output and error lead elsewhere, as in a notebook
        return False


def escape_what_cannot_be_written() -> None:
    """Let what the terminal's encoding lacks be written as \\u03b5, which is valid in JSON too, instead of failing."""
    codecs.register_error("harness.escape", _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="harness.escape")


def forget_a_width_of_nothing() -> None:
    """Where COLUMNS is 0, as a terminal without a size has it, lines are as if it were not set: rich would print nothing."""
    if os.environ.get("COLUMNS", "").strip("0") == "":
        os.environ.pop("COLUMNS", None)


class InterruptedByUser(KeyboardInterrupt):
    """Ctrl-C, or another of `STOPS`. `number`: the signal's; `told`: the user knows already, and how to go on."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number
        self.told = False

    def __str__(self) -> str:
        """In words."""
        return "interrupted" + (f": {OUT_OF_CPU_TIME}" if self.number == signal.SIGXCPU else "")


def interrupt_by_a_name_of_our_own() -> None:
    """Let what stops a program raise one exception, so that whatever was begun is closed and said, however it was stopped.

    A subclass: where a plain KeyboardInterrupt passes through an `exec` of text, as importing a dataclass does, Python (3.11, `-m`) ends
    by the signal in spite of the exit code it was given.
    """
    if threading.current_thread() is threading.main_thread():
        for number, usual in STOPS.items():
            if signal.getsignal(number) is usual:
                signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise InterruptedByUser(number)


def _end_undisturbed() -> None:
    """A second Ctrl-C must not cut short what is said of the first."""
    for number in STOPS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, _pass)


def _pass(_number: int, _frame: FrameType | None) -> None:
    """Nothing; unlike an ignored signal, processes that are started do not inherit it."""


def _run(command: Callable[[], object]) -> int:
    """The exit code of a command of typer, which hides some errors behind `SystemExit(1)`: here they come out again."""
    try:
        command()
    except SystemExit as stop:
        hidden = stop.__context__
        if hidden is not None and isinstance(stopped := hidden.__cause__, InterruptedByUser):
            raise stopped from None
        if isinstance(hidden, typer.Abort):
            hidden = hidden.__cause__ or hidden
        if isinstance(hidden, (EOFError, typer.Abort)) or (isinstance(hidden, OSError) and hidden.errno == errno.EPIPE):
            raise hidden from None
        return stop.code if isinstance(stop.code, int) else INTERNAL if stop.code else 0
    return 0


def _code(error: BaseException) -> int:
    if isinstance(error, HarnessError):
        return error.exit_code
    if isinstance(error, DeviceError):
        return DEVICE_FAILED
    if isinstance(error, ExportError | BuildError):
        return USAGE
    if isinstance(error, KeyboardInterrupt):
        return SIGNALLED + getattr(error, "number", signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    return USAGE if out_of_memory(error) or (isinstance(error, OSError) and error.errno in DISK_FAULTS) else INTERNAL


def _say(error: BaseException, code: int, debug: bool) -> None:
    if code == BROKEN_PIPE:
        _discard(sys.stdout)
        return
    if isinstance(error, InterruptedByUser) and error.told:
        return
    text = _of_the_system(error) if isinstance(error, OSError) and error.errno else str(error)
    if isinstance(error, KeyboardInterrupt):
        text = text or "interrupted"
    elif code == USAGE and out_of_memory(error):
        said = f"{type(error).__name__}: {text}".strip(": ")
        text = f"no memory is left for this program ({said}). Give it more, or end others; what was finished is kept."
    elif code == INTERNAL:
        text = f"a fault of this program, not of your input: {type(error).__name__}: {text}. What was finished is kept. Please report it."
    try:
        if debug or code == INTERNAL:
            traceback.print_exception(error)
        print(f"harness: {_one_line(text)}", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)
    if isinstance(error, OSError):  # a full disk may be that of standard output: what is left of it cannot be written at the end either
        try:
            sys.stdout.flush()
        except OSError:
            _discard(sys.stdout)


def _of_the_system(error: OSError) -> str:
    """The system's words and the path they are about; of a full disk, which it is, for the error of a write names none."""
    words = os.strerror(error.errno or 0)
    if error.errno == errno.EFBIG:
        return (
            f"{error.filename or 'a file'}: {words}: this program may write none so large (ulimit -f), or its disk takes none. Raise the "
            "limit; what was finished is kept."
        )
    if error.errno == errno.ENOENT and NO_TEMPORARY in (error.strerror or ""):
        return f"{error.strerror}: set TMPDIR to a folder that can be written to, on a disk with room."
    if error.errno not in FULL:
        return f"{error.filename or 'disk'}: {words}"
    return f"{error.filename or full_place() or 'disk'}: {words}. Make room there; what was finished is kept."


def full_place(*folders: Path) -> str | None:
    """The first place whose disk is full: of `folders`, and of what else a command writes to."""
    for place in (*folders, *_written_to()):
        with contextlib.suppress(OSError, ValueError):
            if place.exists() and shutil.disk_usage(place).free < FULL_BYTES:
                return str(place)
    return None


def _written_to() -> Iterator[Path]:
    """What its line names, this folder, the temporary one. This one may be removed; where no disk has room there is no temporary one."""
    yield from (Path(word.partition("=")[2] or word) for word in sys.argv[1:] if len(word) < LONGEST_WORD)
    with contextlib.suppress(OSError):
        yield Path.cwd()
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir())


def _discard(stream: object) -> None:
    """Let the rest of a stream go nowhere: Python writes it when it ends, and would complain."""
    if isinstance(stream, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _escape(error: UnicodeError) -> tuple[str, int]:
    """UTF-16 units, each \\uXXXX, as JSON writes them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)), error.end


def _one_line(text: str) -> str:
    """What a message holds of names from outside may end a line, or move the cursor."""
    from reports.format import clean

    return clean(text)
