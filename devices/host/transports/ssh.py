"""Another machine, reached by SSH: files travel once, what was started ends with its connection, and one run at a time has the device.

A dropped connection is opened again, and an upload goes on where it was; what was started is started again by the session.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from devices.host.channel import Channel
from devices.host.errors import DeviceError
from devices.host.rules import State, check_fields
from devices.host.transports import Facts, Progress, Say, answers
from devices.host.transports.answers import DamagedError, ask, follow_up
from devices.host.transports.openssh import BANNER_LINES, HELLO_S, Session, UnreachableError, check_host, drop_connection, ssh_command
from devices.worker.environment import CLOCK_SKEW
from devices.worker.files import sha256_file
from devices.worker.loadgen import PACKAGE
from devices.worker.plain import cleaned, printable
from devices.worker.spec import FormatError
from devices.worker.wire import BEAT, BEAT_S, CHUNK, ClosedError, NonsenseError, Wire

if TYPE_CHECKING:
    from devices.host.profile import DeviceProfile

RECONNECT_S = 300.0  # a board has restarted by then
DROPS = 20  # of the connection, during one step
MOST_CPUS = 1 << 16
MOST_HOLDERS = 1000  # for whom one run waits

KEPT = "What is finished is kept; go on with --resume."

_BEGINS = "edge-harness-begins"
_LONGEST_PAUSE_S = 15.0

T = TypeVar("T")


def _pass_over_greeting(channel: Channel) -> None:
    """Read what comes before the program itself. A connection that ends meanwhile is told to whoever reads on."""
    stop = time.monotonic() + HELLO_S
    with suppress(ClosedError):
        for _ in range(BANNER_LINES):
            if channel.line(stop - time.monotonic()) in (None, _BEGINS.encode()):
                return


class Ssh:
    """See `devices.host.transports.Transport`. A folder there is named after who sent it first, from where, and every byte in it."""

    def __init__(self, profile: DeviceProfile, say: Say) -> None:
        # A login begins in the home folder, and the agent there takes a relative program from it too.
        self.python = tuple(word.removeprefix("~/") for word in shlex.split(profile.python))
        self._profile, self._say = profile, say
        self._host = profile.host or profile.name
        check_host(self._host)
        self._session: Session | None = None
        self._hello: answers.Hello | None = None
        self._skew_s = 0.0
        self._job = ""
        self._there = answers.Laid("", "")
        self._busy = threading.RLock()  # the connection serves one request, or one beat, at a time
        self._left = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self._job:
                self._steadily(lambda wire: ask(wire, answers.Done, "remove", job=self._job))
        except (ClosedError, DeviceError):
            self._say(f"the job's folder on {self._host} could not be removed; a run that needs the room does it")
        finally:
            self._left.set()
            with self._busy:
                self._close()

    def facts(self) -> Facts:
        """Log in and ask."""
        self._steadily(lambda wire: None)
        assert self._hello is not None  # noqa: S101 - a session begins with it
        hello, emulator = self._hello, self._hello.emulator
        if not 1 <= hello.cpus <= MOST_CPUS:
            raise DeviceError(f"{self._host} gave an answer that cannot be used: {hello.cpus} CPUs; expected 1 to {MOST_CPUS}")
        absent = tuple(name for name in ("numpy", PACKAGE, *self._profile.runtimes) if name in hello.absent)
        seen = answers.Observed({}, {})
        if "numpy" not in absent and not self._profile.synthetic_clock:
            watch = {"power_query": self._profile.power.query, "clocks_query": self._profile.clocks.query}
            what = {**watch, "providers": self._profile.telemetry.providers}
            seen = self._steadily(lambda wire: ask(wire, answers.Observed, "observe", watch=what, packages=self._profile.runtimes))
            try:
                check_fields("state", seen.state, State)
            except FormatError as error:
                raise DeviceError(f"{self._host} gave an answer that cannot be used: {printable(str(error))}") from error
        return Facts(
            printable(hello.machine),
            hello.cpus,
            printable(emulator) if emulator else None,
            self._skew_s,
            absent,
            cleaned(seen.state),
            cleaned(seen.versions),
            hello.allowed[:MOST_CPUS],
            hello.fast[:MOST_CPUS],
            printable(hello.gpu_barred),
        )

    def put(self, folder: Path, progress: Progress) -> str:
        """Send what the device does not have yet; files and folders whose name begins with a dot stay here."""
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        files = {name: path for name, path in files.items() if not any(part.startswith(".") for part in name.split("/"))}
        hashes = {name: sha256_file(path) for name, path in files.items()}
        origin = [platform.node(), str(folder.resolve()), sorted(hashes.items())]
        self._job = self._job or hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:32]  # sent again, it stays in its place
        contents = {sha256: files[name] for name, sha256 in hashes.items()}
        self._steadily(self._take_lock)
        self._twice(_Upload(self._job, contents, progress, self._say))
        self._there = self._steadily(lambda wire: ask(wire, answers.Laid, "lay", job=self._job, files=hashes))
        if not self._beats.is_alive():
            self._beats.start()
        return self._there.folder

    def open(self, command: Sequence[str], there: str) -> Channel:
        """Start it in a session of its own beside the agent's, which keeps the device's lock meanwhile.

        The agent is asked first: a connection that was lost is opened again, and the lock taken again. A shell waits for the program,
        since the ssh client tells of a program that a signal killed as of a lost connection. What the login's own scripts print comes
        before a line of the shell's, and is passed over.
        """
        self._steadily(self._greet)
        program, *words = command
        if "/" in program:  # a relative program was looked for, and found, from the home folder, where a login begins
            program = str(PurePosixPath(self._there.home, program))
        line = shlex.join(["env", f"{CLOCK_SKEW}={self._skew_s:.3f}", program, *words])
        script = shlex.join(["sh", "-c", f"cd {shlex.quote(there)} || exit; echo; echo {_BEGINS}; {line}; exit $?"])
        channel = Channel([*ssh_command(self._host), "-T", "--", self._host, script], None, remote=True)
        try:
            _pass_over_greeting(channel)
        except BaseException:
            channel.end(0.0)
            raise
        return channel

    def clean(self) -> answers.Cleaned:
        """Throw away what runs left there, once no run has the device."""
        self._job = self._job or hashlib.sha256(f"clean {platform.node()} {os.getpid()}".encode()).hexdigest()[:32]
        self._steadily(self._take_lock)
        return self._steadily(lambda wire: ask(wire, answers.Cleaned, "clean"))

    def _twice(self, step: Callable[[Wire], T]) -> T:
        """Take a step, and once more where bytes changed on the way."""
        try:
            return self._steadily(step)
        except DamagedError as error:
            self._say(f"bytes changed on the way to or from {self._host} ({error}); they are sent again")
            return self._steadily(step)

    def _steadily(self, step: Callable[[Wire], T]) -> T:
        """Take a step that can be repeated; where the connection drops, open it again and repeat the step."""
        for _ in range(DROPS):
            with self._busy:
                session = self._connected()
                try:
                    return step(session.wire)
                except NonsenseError as error:
                    self._close()
                    raise DeviceError(f"{self._host} does not speak as the agent does: {printable(str(error))}. {KEPT}") from error
                except ClosedError:
                    fault = session.fault()
                    self._close()
            if not fault.passing:
                raise fault
            drop_connection(self._host)
            self._say(f"the connection to {self._host} was lost; trying again for up to {RECONNECT_S:g} s")
        raise DeviceError(f"the connection to {self._host} was lost {DROPS} times during one step. {KEPT}")

    def _beat(self) -> None:
        """Tell the agent now and then that this end lives: it gives the device's lock back after a silence."""
        while not self._left.wait(BEAT_S):
            with self._busy:
                if self._session is None:
                    continue
                try:
                    self._session.wire.send(BEAT)
                    self._session.wire.check(0.0)
                except ClosedError:
                    self._close()  # it is opened again for the next request

    def _connected(self) -> Session:
        """The session, opened where there is none; with patience where there has been one."""
        if self._session is not None:
            return self._session
        stop, pause_s = time.monotonic() + RECONNECT_S, 0.5
        while self._session is None:
            try:
                self._session = self._open()
            except UnreachableError as error:
                if self._hello is None or not error.passing:
                    raise
                if time.monotonic() + pause_s > stop:
                    raise DeviceError(f"{error}. {KEPT}") from error
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return self._session

    def _open(self) -> Session:
        """Log in; see that it is the right kind of machine; take the device's lock for the job."""
        session = Session(self._host, self.python)
        try:
            again = self._hello is not None
            self._greet(session.wire)
            if again and self._job:
                self._take_lock(session.wire)
        except NonsenseError as error:
            session.close()
            raise UnreachableError(
                f"{self._host} does not speak as the agent does: {printable(str(error))}. {KEPT}", passing=False
            ) from error
        except ClosedError:
            fault = session.fault()
            session.close()
            raise fault from None
        except BaseException:
            session.close()
            raise
        return session

    def _greet(self, wire: Wire) -> None:
        before = time.time()
        hello = ask(wire, answers.Hello, "hello", packages=["numpy", PACKAGE, *self._profile.runtimes])
        skew_s = hello.time - (before + time.time()) / 2
        emulation = self._profile.emulation
        if emulation is not None and hello.machine != emulation.machine:
            raise DeviceError(
                f"{self._host} is {printable(hello.machine)}, but {self._profile.name} is {emulation.machine}. "
                f"No job was sent. Choose another --device or another --host."
            )
        self._hello, self._skew_s = hello, skew_s

    def _take_lock(self, wire: Wire) -> None:
        """Take the device's lock for the job, however long another run has it; the user is told whose."""
        who = f"{user_name()}@{platform.node()}, process {os.getpid()}"
        answer = ask(wire, answers.Lock, "lock", job=self._job, who=who)
        for _ in range(MOST_HOLDERS):
            if answer.waiting is None:
                break
            self._say(f"{self._host} is in use by {printable(answer.waiting)}; waiting for it")
            answer = follow_up(wire, answers.Lock, limit_s=None)
        else:
            raise DeviceError(f"{self._host} names a new run that has it, {MOST_HOLDERS} times over. {KEPT}")
        if answer.left_over:
            self._say(f"took over {self._host} from a run that ended without a word: {printable(answer.left_over)}")

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class _Upload:
    """Sends the files that the device lacks, or the rest of them. Called again after a drop, it goes on."""

    def __init__(self, job: str, contents: dict[str, Path], progress: Progress, say: Say) -> None:
        self._job, self._contents, self._progress, self._say = job, contents, progress, say
        self._sizes = {sha256: path.stat().st_size for sha256, path in contents.items()}
        self._total = 0

    def __call__(self, wire: Wire) -> None:
        answer = ask(wire, answers.Missing, "missing", job=self._job, files=self._sizes)
        missing = answer.missing
        if answer.trimmed:
            gone = f"{answer.trimmed} of its files, {answer.trimmed_bytes / 2**20:.0f} MiB"
            self._say(f"the store on the device had reached its limit; thrown away there, the longest unused first: {gone}")
        if any(not 0 <= begun <= self._sizes.get(sha256, -1) for sha256, begun in missing.items()):
            raise DeviceError(f"the device asks for files that there are not, or for more of one than it has: {printable(str(missing))}")
        left = sum(self._sizes[sha256] - begun for sha256, begun in missing.items())
        self._total = self._total or left
        for sha256, begun in missing.items():
            wire.send({"op": "receive", "sha256": sha256, "size": self._sizes[sha256], "offset": begun})
            with self._contents[sha256].open("rb") as file:
                file.seek(begun)
                while piece := file.read(CHUNK):
                    wire.write(piece)
                    left -= len(piece)
                    self._progress("upload", max(self._total - left, 0), self._total)
            follow_up(wire, answers.Done)


def user_name() -> str:
    """Who runs this, for those who wait: a container may give a process a number that has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return f"user {os.getuid()}"
