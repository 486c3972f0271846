"""Another machine, reached by SSH: files travel once, what was started outlives the connection, and one run at a time has the device.

A dropped connection is opened again, and everything goes on where it was: an upload, the job, a download.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from devices.environment import CLOCK_SKEW
from devices.errors import DeviceError, StuckError
from devices.files import sha256_file
from devices.plain import printable
from devices.process import LINE_LENGTH, Exit
from devices.rules import State, check_fields
from devices.transports import Facts, Progress, Say, answers, worth_observing
from devices.transports.answers import DamagedError, ask, follow_up
from devices.transports.openssh import Session, UnreachableError, check_host, drop_connection
from devices.wire import CHUNK, ClosedError, NonsenseError, Wire

if TYPE_CHECKING:
    from devices.profile import DeviceProfile

RECONNECT_S = 300.0  # a board has restarted by then
DROPS = 20  # of the connection, during one step
MOST_FILES, MOST_BYTES = 1000, 8 << 30  # that are brought back from one folder
MOST_HOLDERS = 1000  # for whom one run waits

KEPT = "What is finished is kept; go on with --resume."

_LONGEST_PAUSE_S = 15.0
_PATH = re.compile(r"[A-Za-z0-9_][\w.+-]{0,205}(/[A-Za-z0-9_][\w.+-]{0,205}){0,3}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


class Ssh:
    """See `devices.transports.Transport`. A folder there is named after who sent it, from where, and every byte in it."""

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
        self._adopt = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self._job and self._session is not None:
                ask(self._session.wire, answers.Done, "remove", job=self._job)
        except (ClosedError, DeviceError):
            self._say(f"the job's folder on {self._host} could not be removed; a run that needs the room does it")
        finally:
            self._close()

    def facts(self) -> Facts:
        """Log in and ask."""
        self._steadily(lambda wire: None)
        assert self._hello is not None  # noqa: S101 - a session begins with it
        said, emulator = self._hello, self._hello.emulator
        absent = tuple(name for name in ("numpy", *self._profile.runtimes) if name in said.absent)
        seen = answers.Observed({}, {})
        if "numpy" not in absent and worth_observing(self._profile):
            watch = {"power_query": self._profile.power.query, "clocks_query": self._profile.clocks.query}
            what = {**watch, "providers": self._profile.telemetry.providers}
            seen = self._steadily(lambda wire: ask(wire, answers.Observed, "observe", watch=what, packages=self._profile.runtimes))
            check_fields("state", seen.state, State)
        return Facts(
            printable(said.machine), said.cpus, printable(emulator) if emulator else None, self._skew_s, absent, seen.state, seen.versions
        )

    def put(self, folder: Path, progress: Progress) -> str:
        """Send what the device does not have yet; files and folders whose name begins with a dot stay here."""
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        files = {name: path for name, path in files.items() if not any(part.startswith(".") for part in name.split("/"))}
        hashes = {name: sha256_file(path) for name, path in files.items()}
        origin = [platform.node(), str(folder.resolve()), sorted(hashes.items())]
        self._job, self._adopt = hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:32], True
        contents = {sha256: files[name] for name, sha256 in hashes.items()}
        self._steadily(self._take_lock)
        self._twice(_Upload(self._job, contents, progress))
        self._steadily(lambda wire: ask(wire, answers.Done, "lay", job=self._job, files=hashes))
        return self._job

    def run(self, command: Sequence[str], there: str, on_line: Callable[[str], None], silence_limit_s: float) -> Exit:
        """Start it, and follow it. It is started once more where the device restarts, or something kills it, meanwhile."""
        adopt, self._adopt = self._adopt, False
        what = {"job": there, "command": list(command), "silence_limit_s": silence_limit_s}
        try:
            for tries_left in (1, 0):
                variables = {CLOCK_SKEW: f"{self._skew_s:.3f}"}
                request = {**what, "key": uuid.uuid4().hex, "adopt": adopt and bool(tries_left), "variables": variables}
                answer = self._steadily(_Follower(on_line, request))
                if answer.end is not None:
                    return _exit(answer.end, self._host)
                why = f"{printable(str(answer.gone))} while the worker ran on {self._host}"
                if tries_left:
                    self._say(f"{why}: it is started again")
            free = answer.free_bytes / 2**20
            raise DeviceError(f"{why}, twice. {free:.0f} MiB of its disk are free; is there enough memory, and does it restart by itself?")
        except BaseException as error:
            if isinstance(error, StuckError) or not isinstance(error, DeviceError):
                self._stop(there)
            raise

    def get(self, there: str, folder: Path) -> None:
        """Bring every file back, checked against the hash that the device took of it."""
        job, _, path = there.partition("/")
        staging = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        listed = self._steadily(lambda wire: ask(wire, answers.Files, "list", job=job, path=path))
        for name, size, sha256 in checked_list(listed.files, self._host):
            request = {"job": job, "path": f"{path}/{name}" if path else name, "size": size}
            self._twice(_Download(staging / name, sha256, request))
        staging.replace(folder)

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
                    raise fault from None
                drop_connection(self._host)
                self._say(f"the connection to {self._host} was lost; trying again for up to {RECONNECT_S:g} s")
        raise DeviceError(f"the connection to {self._host} was lost {DROPS} times during one step. {KEPT}")

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
        hello = ask(wire, answers.Hello, "hello", packages=["numpy", *self._profile.runtimes])
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

    def _stop(self, there: str) -> None:
        """Stop what runs there, over a session of its own: what was under way on the other one is broken off."""
        self._close()
        try:
            session = Session(self._host, self.python)
            try:
                ask(session.wire, answers.Stopped, "stop", job=there)
            finally:
                session.close()
        except (ClosedError, DeviceError) as error:
            self._say(f"the worker on {self._host} could not be stopped and may still run ({error})")

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class _Upload:
    """Sends the files that the device lacks, or the rest of them. Called again after a drop, it goes on."""

    def __init__(self, job: str, contents: dict[str, Path], progress: Progress) -> None:
        self._job, self._contents, self._progress = job, contents, progress
        self._sizes = {sha256: path.stat().st_size for sha256, path in contents.items()}
        self._total = 0

    def __call__(self, wire: Wire) -> None:
        missing = ask(wire, answers.Missing, "missing", job=self._job, files=self._sizes).missing
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


class _Follower:
    """Starts a command and passes its lines on. Called again after a drop, it goes on after the last line it had."""

    def __init__(self, on_line: Callable[[str], None], request: dict[str, Any]) -> None:
        self._on_line, self._request = on_line, request
        self._key, self._offset = "", 0
        self._limit_s = request["silence_limit_s"] + answers.LIMIT_S  # the supervisor there ends what is silent, and says so

    def __call__(self, wire: Wire) -> answers.Told:
        key = ask(wire, answers.Started, "start", **self._request).key
        if key != self._key:
            self._key, self._offset = key, 0
        answer = ask(wire, answers.Told, "follow", self._limit_s, job=self._request["job"], offset=self._offset)
        while answer.line is not None:
            self._offset = answer.offset
            self._on_line(printable(answer.line, LINE_LENGTH))
            answer = follow_up(wire, answers.Told, self._limit_s)
        if answer.end is None and answer.gone is None:
            raise NonsenseError("neither a line of the worker nor its end")
        return answer


class _Download:
    """Brings one file back, or the rest of it."""

    def __init__(self, target: Path, sha256: str, request: dict[str, Any]) -> None:
        self._target, self._sha256, self._request = target, sha256, request
        target.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, wire: Wire) -> None:
        with self._target.open("ab") as file:
            left = self._request["size"] - file.tell()
            if ask(wire, answers.Size, "fetch", **self._request, offset=file.tell()).size != left:
                raise NonsenseError("another size than was listed")
            for piece in wire.read(left):
                file.write(piece)
        follow_up(wire, answers.Done)
        if (found := sha256_file(self._target)) != self._sha256:
            self._target.unlink()
            raise DamagedError(f"{self._target.name}: sha256 {found[:12]}…, expected {self._sha256[:12]}…")


def checked_list(files: Sequence[answers.Listed], host: str) -> list[tuple[str, int, str]]:
    """The path, size and hash of every file that a device offers.

    Raises:
        DeviceError: a path that could leave the folder or be a file and a folder, or more than the run folder should take.
    """
    found = [(file.path, file.size, file.sha256) for file in files]
    for path, size, sha256 in found:
        if not _PATH.fullmatch(path) or ".." in path.split("/") or size < 0 or not _SHA256.fullmatch(sha256):
            raise DeviceError(f"{host} offers a file that is refused: {printable(path)!r}, {size} bytes. Nothing was brought back.")
    paths = {path for path, _, _ in found}
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    if len(paths) < len(found) or paths & folders or len(found) > MOST_FILES or sum(size for _, size, _ in found) > MOST_BYTES:
        raise DeviceError(
            f"{host} offers {len(found)} files, or too many bytes, or one name twice; at most {MOST_FILES} files and "
            f"{MOST_BYTES >> 30} GiB are taken"
        )
    return found


def user_name() -> str:
    """Who runs this, for those who wait: a container may give a process a number that has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return f"user {os.getuid()}"


def _exit(end: answers.End, host: str) -> Exit:
    if end.error is not None or end.code is None:
        raise DeviceError(f"{host}: {printable(end.error or 'it does not say how the worker ended')}")
    return Exit(end.code, end.hung, tuple(printable(line, LINE_LENGTH) for line in end.stderr))
