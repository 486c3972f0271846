"""One run over several devices: the adversarial sets are made once, then every device has a run folder of its own.

Devices on one computer take turns, others run side by side. Each is an ordinary `harness bench --resume` in a process of its own, so that
an interruption, a device that fails and a second try are what they always are. One that cannot be reached stops no other.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from devices.host.errors import DeviceError
from devices.host.transports import SSH
from devices.worker.plain import printable
from harness import spine
from harness.ending import DEVICE_FAILED, INTERNAL, INTERRUPTED, SIGNALLED, STOPS
from harness.errors import UsageError
from harness.fleet.members import Member, check_fleet, folder_name
from harness.records import RECORD, RunRecord, Step, read_record, write_record
from harness.run import RunFolder, check_links, now
from harness.settings import FLEET, Settings, engine_name, stored_settings
from harness.stages.names import check_names
from harness.stages.subject import load_subject
from reports.compare import render_comparison
from reports.elements import Item, Listing, Section

SCHEMA = 1  # of fleet.json. 1: first version
SHARED = ("artefacts", "adversarial")
LINE_BYTES = 4096  # of a member's words, beyond which a line is passed on in pieces
PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)
ORDER = (1, DEVICE_FAILED, INTERNAL, INTERRUPTED, 2, 3, 0)  # of exit codes: the first that any member has is the fleet's
STOPPED = {SIGNALLED + number for number in STOPS}


class Entry(BaseModel):
    """One member of a fleet's run: where its run folder is, and how it ended (the exit code of `harness bench`)."""

    member: Member
    folder: str
    exit_code: int | None = None
    fault: str | None = Field(default=None, description="why it has no finished run: it was not reached, or what its run said last")


class FleetRecord(BaseModel):
    """What `fleet.json` holds; the figures are in the members' records."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: int = Field(default=SCHEMA, alias="schema")
    created: str
    command: list[str]
    settings: dict[str, Any] = Field(description="the options that the members share")
    members: list[Entry]

    def save(self, folder: Path) -> None:
        """Write it whole or not at all."""
        write_record(self, folder / FLEET)

    @property
    def exit_code(self) -> int:
        """The gravest of the members'."""
        codes = {DEVICE_FAILED if entry.exit_code is None else entry.exit_code for entry in self.members}
        codes = {INTERRUPTED if code in STOPPED else code for code in codes}
        codes = {code if code in ORDER else INTERNAL for code in codes}  # killed, for instance
        return next(code for code in ORDER if code in codes)


def bench(members: list[Member], common: Settings, out: Path, command: list[str], requirements: Path | None = None) -> FleetRecord:
    """Open a fleet's run in `out`, new or empty, and go through with it; every member is held against the same requirements.

    Raises:
        UsageError: something the user can mend, found before any work.
        DeviceError: none of the devices can be reached.
    """
    check_fleet(members, common)
    common = common.model_copy(update={"exhaustive": True})  # sets for all devices: none is narrowed to what one device's engines withstand
    entries = [Entry(member=member, folder=folder_name(member)) for member in members]
    for entry in entries:
        settings = entry.member.settings(common)
        if requirements is not None:
            spine.check_requirements(requirements, settings)
        reach(entry, partial(load_subject, settings))
    if all(entry.fault for entry in entries):
        raise DeviceError("none of the devices can be used: " + "; ".join(f"{entry.folder}: {entry.fault}" for entry in entries))
    with RunFolder(out, new=True):
        spine.keep_requirements(requirements, out)
        fleet = FleetRecord(created=now(), command=command, settings=common.model_dump(mode="json"), members=entries)
        fleet.save(out)
        return go_on(fleet, out)


def resume(folder: Path) -> FleetRecord:
    """Go on with an interrupted fleet: members that have finished are not run again, those that were not reached are tried again.

    Raises:
        UsageError: `folder` holds no fleet, or one that would write elsewhere; another process is at it.
        UntrustedError: `fleet.json` is damaged or of an unknown schema.
    """
    _begun(folder)
    with RunFolder(folder):
        fleet = _begun(folder)  # as whoever held it left it
        for entry in fleet.members:
            entry.fault = None
        return go_on(fleet, folder)


def _begun(folder: Path) -> FleetRecord:
    """The fleet in a folder. Raises as `resume`."""
    fleet = read_record(FleetRecord, folder / FLEET, SCHEMA, "the folder of a fleet")
    check_members(fleet, folder)
    check_links(folder)
    return fleet


def check_members(fleet: FleetRecord, folder: Path) -> None:
    """Refuse a stored fleet whose run folders are not those that `bench` made: a file from elsewhere must not say where to write.

    Raises:
        UsageError: no member, a run folder of another name than its device's, or the same one twice.
    """
    names = [entry.folder for entry in fleet.members]
    for entry in fleet.members:
        expected = folder_name(entry.member)
        if entry.folder != expected or not PLAIN_NAME.fullmatch(expected):
            raise UsageError(
                f"{folder / FLEET}: the run folder of device {entry.member.name!r} is {entry.folder!r}; "
                f"expected {expected!r}, one plain name. The file was changed: start a new run."
            )
    if not names or len(set(names)) < len(names):
        raise UsageError(f"{folder / FLEET}: its members are {', '.join(names) or 'none'}; expected each device once. Start a new run.")


def go_on(fleet: FleetRecord, folder: Path) -> FleetRecord:
    """Make what is shared, run what has not finished, computers side by side, and render the comparison."""
    tell([entry for entry in fleet.members if entry.fault])
    before = {entry.folder for entry in fleet.members if entry.fault}
    prepare(fleet, folder)
    fleet.save(folder)
    tell([entry for entry in fleet.members if entry.fault and entry.folder not in before])
    computers: dict[str, list[Entry]] = defaultdict(list)
    for entry in opened(fleet, folder):
        computers[computer(entry, folder)].append(entry)
    lock, running = threading.Lock(), Running()

    def take_turns(entries: list[Entry]) -> None:
        for entry in entries:
            if running.stopped:
                return
            code, last = run_member(folder / entry.folder, entry.member.name, running=running)
            with lock:
                why = last or f"it ended with code {code} and said nothing"
                entry.exit_code, entry.fault = code, None if status(folder, entry) == Step.FINISHED else why
                fleet.save(folder)

    with ThreadPoolExecutor(max(len(computers), 1)) as pool:
        try:
            list(pool.map(take_turns, computers.values()))
        except BaseException:
            running.stop()
            raise
    runs = {entry.folder: folder / entry.folder for entry in opened(fleet, folder) if status(folder, entry) == Step.FINISHED}
    render_comparison(runs, folder, list(without_run(fleet, folder)))
    return fleet


def tell(lost: list[Entry]) -> None:
    """Say which members were not reached, and why."""
    for entry in lost:
        print(f"{entry.member.name} | not reached, the others go on: {entry.fault}", file=sys.stderr, flush=True)


def prepare(fleet: FleetRecord, folder: Path) -> None:
    """Make artefacts and adversarial sets in the run folder of a member that can be reached, and share them; open the others' run folders.

    A member that cannot be reached has no run folder afterwards: its entry says why.
    """
    common = stored_settings(fleet.settings, folder)
    begun = opened(fleet, folder)
    maker = begun[0] if begun else None
    if maker is not None and len(begun) < len(fleet.members) and status(folder, maker) == Step.STARTED:
        # Perhaps it was interrupted while the sets were made.
        reach(maker, partial(spine.prepare, maker.member.settings(common), folder / maker.folder, fleet.command))
    for entry in fleet.members:
        place, settings = folder / entry.folder, entry.member.settings(common)
        if entry.fault or (place / RECORD).exists():
            continue
        if maker is None:
            reach(entry, partial(spine.prepare, settings, place, fleet.command))
            maker = None if entry.fault else entry
        else:
            copy_shared(folder / maker.folder, place, settings)
            reach(entry, partial(spine.open_only, settings, place, fleet.command))
    if (wanted := folder / spine.REQUIREMENTS).exists():
        for entry in opened(fleet, folder):
            spine.keep_requirements(wanted, folder / entry.folder)


def reach(entry: Entry, step: Callable[[], object]) -> None:
    """Take a step that needs a member's device; where that cannot be reached or used, its entry says why."""
    try:
        step()
    except DeviceError as error:
        entry.exit_code, entry.fault = DEVICE_FAILED, printable(str(error), LINE_BYTES)


def opened(fleet: FleetRecord, folder: Path) -> list[Entry]:
    """The members that have a run folder."""
    return [entry for entry in fleet.members if (folder / entry.folder / RECORD).exists()]


def status(folder: Path, entry: Entry) -> Step:
    """How far the run of a member is that has one."""
    return RunRecord.load(folder / entry.folder).status


def without_run(fleet: FleetRecord, folder: Path) -> Iterator[Section]:
    """The report's section on the members that have no finished run, where there are any."""
    if lost := [Item(entry.folder, entry.fault, "bad") for entry in fleet.members if entry.fault]:
        again = f"To try them again: harness bench --resume {shlex.quote(str(folder))}"
        yield Section("without-run", "Devices without a finished run", [again], lists=[Listing("Why", lost)])


def copy_shared(source: Path, place: Path, settings: Settings) -> None:
    """Give a run folder the artefacts and the sets of another member's, but for those that were made on the other's engines."""
    own = shutil.ignore_patterns(*(f"S4-{engine_name(flavour)}*" for flavour in settings.flavour_names))
    for part in (part for part in SHARED if (source / part).is_dir()):
        shutil.copytree(source / part, place / part, copy_function=share, dirs_exist_ok=True, ignore=own)


def share(source: str, target: str) -> None:
    """Link a file where the disk can, else copy it; one that is there already is left."""
    if Path(target).exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def computer(entry: Entry, folder: Path) -> str:
    """Which computer a member's device is: the runs on one take turns."""
    settings = stored_settings(RunRecord.load(folder / entry.folder).settings, folder / entry.folder)
    _, profile = check_names(settings)
    return profile.host or entry.member.name if profile.transport == SSH else "this computer"


class Running:
    """The members' processes that run now: whoever stops the fleet stops them, for it waits for them."""

    def __init__(self) -> None:
        self.stopped = False
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    @contextmanager
    def start(self, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        """A process whose words come through a pipe; it is waited for."""
        with self._lock:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            self._processes.add(process)
            if self.stopped:
                process.terminate()
        with process:
            yield process
        with self._lock:
            self._processes.discard(process)

    def stop(self) -> None:
        """End them all, as `kill` does: each keeps what it has finished."""
        with self._lock:
            self.stopped = True
            for process in self._processes:
                process.terminate()


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run_member(folder: Path, name: str, say: Callable[[str], None] = _print, running: Running | None = None) -> tuple[int, str]:
    """One member in its own process, its words passed on with the device's name before them; returns its exit code and its last line."""
    line = ""
    with (running or Running()).start(member_command(folder)) as process:
        assert process.stderr is not None  # noqa: S101
        while raw := process.stderr.readline(LINE_BYTES):
            line = printable(raw.decode(errors="replace"), LINE_BYTES)
            say(f"{name} | {line}")
    return process.returncode, line.removeprefix("harness: ")


def member_command(folder: Path) -> list[str]:
    """The command line that goes on with a member's run."""
    return [sys.executable, "-m", "harness.cli", "bench", "--resume", str(folder), "--json"]
