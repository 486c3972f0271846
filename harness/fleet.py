"""One run over several devices: the adversarial sets are made once, then every device has a run folder of its own.

Devices on one computer take turns, others run side by side. Each is an ordinary `harness bench --resume` in a process of its own, so that
an interruption, a device that fails and a second try are what they always are.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devices.host.transports import SSH
from devices.worker.plain import printable
from harness import spine
from harness.ending import DEVICE_FAILED, INTERNAL, INTERRUPTED
from harness.errors import UsageError
from harness.records import RECORD, RunRecord, Step, read_record, write_record
from harness.run import check_links, now
from harness.settings import FLEET, Settings, engine_name, stored_settings
from harness.stages.names import check_names
from harness.stages.subject import load_subject
from harness.toml import read_toml
from reports.compare import render_comparison

SCHEMA = 1  # of fleet.json. 1: first version
SHARED = ("artefacts", "adversarial")
LINE_BYTES = 4096  # of a member's words, beyond which a line is passed on in pieces
PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)
ORDER = (1, DEVICE_FAILED, INTERNAL, INTERRUPTED, 2, 3, 0)  # of exit codes: the first that any member has is the fleet's


class Member(BaseModel):
    """One device of a fleet, as `--fleet FILE.toml` names it: a table `[[device]]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="a device profile")
    host: str | None = None
    emulate: bool = False
    threads: int | None = None

    def settings(self, common: Settings) -> Settings:
        """The common options with this device in place."""
        own = {"device": self.name, "host": self.host, "emulate": self.emulate}
        return common.model_copy(update=own | ({"threads": self.threads} if self.threads is not None else {}))


class Entry(BaseModel):
    """One member of a fleet's run: where its run folder is, and how it ended (the exit code of `harness bench`)."""

    member: Member
    folder: str
    exit_code: int | None = None


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
        codes = {code if code in ORDER else INTERNAL for code in codes}  # killed, for instance
        return next(code for code in ORDER if code in codes)


def members(devices: list[str], file: Path | None, *, host: str | None, emulate: bool) -> list[Member]:
    """The devices that the command line names, by `--device` repeated or by `--fleet`.

    Raises:
        UsageError: both, or an option that cannot be meant for all of them.
    """
    if host is not None:
        raise UsageError(f"--host {host} is for one device; several have theirs in --fleet FILE.toml (host = …)")
    if file is None:
        return [Member(name=name, emulate=emulate) for name in devices]
    if devices or emulate:
        given = f"--device {devices[0]}" if devices else "--emulate"
        raise UsageError(f"{given} and --fleet {file}: the fleet's file names its devices; give one of the two")
    return read_fleet(file)


def read_fleet(path: Path) -> list[Member]:
    """The devices of a fleet file.

    Raises:
        UsageError: it is missing, not TOML, empty, or holds an unknown field.
    """
    tables = read_toml(path, "--fleet")
    if set(tables) != {"device"} or not isinstance(tables["device"], list) or not tables["device"]:
        raise UsageError(
            f'--fleet {path}: expected tables [[device]] with name = "…" and nothing else; got {", ".join(tables) or "nothing"}'
        )
    try:
        return [Member(**table) for table in tables["device"]]
    except (ValidationError, TypeError) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("device",), "msg": str(error)}
        raise UsageError(f"--fleet {path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error


def bench(members: list[Member], common: Settings, out: Path, command: list[str], requirements: Path | None = None) -> FleetRecord:
    """Open a fleet's run in `out`, new or empty, and go through with it; every member is held against the same requirements.

    Raises:
        UsageError: something the user can mend, found before any work.
        DeviceError: a device cannot be reached.
    """
    names = [folder_name(member) for member in members]
    if len(set(names)) < len(names):
        raise UsageError(f"a device is named twice: {', '.join(sorted(names))}")
    common = common.model_copy(update={"exhaustive": True})  # sets for all devices: none is narrowed to what one device's engines withstand
    for member in members:
        if requirements is not None:
            spine.check_requirements(requirements, member.settings(common))
        load_subject(member.settings(common))
    entries = [Entry(member=member, folder=name) for member, name in zip(members, names, strict=True)]
    out.mkdir(parents=True, exist_ok=True)
    spine.keep_requirements(requirements, out)
    fleet = FleetRecord(created=now(), command=command, settings=common.model_dump(mode="json"), members=entries)
    fleet.save(out)
    return go_on(fleet, out)


def resume(folder: Path) -> FleetRecord:
    """Go on with an interrupted fleet: members that have finished are not run again.

    Raises:
        UsageError: `folder` holds no fleet, or one that would write elsewhere.
        UntrustedError: `fleet.json` is damaged or of an unknown schema.
    """
    fleet = read_record(FleetRecord, folder / FLEET, SCHEMA, "the folder of a fleet")
    check_members(fleet, folder)
    check_links(folder)
    return go_on(fleet, folder)


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
    prepare(fleet, folder)
    computers: dict[str, list[Entry]] = defaultdict(list)
    for entry in fleet.members:
        computers[computer(entry, folder)].append(entry)
    lock = threading.Lock()

    def take_turns(entries: list[Entry]) -> None:
        for entry in entries:
            code = run_member(folder / entry.folder, entry.member.name)
            with lock:
                entry.exit_code = code
                fleet.save(folder)

    with ThreadPoolExecutor(len(computers)) as pool:
        list(pool.map(take_turns, computers.values()))
    finished = {e.folder: folder / e.folder for e in fleet.members if RunRecord.load(folder / e.folder).status == Step.FINISHED}
    render_comparison(finished, folder)
    return fleet


def prepare(fleet: FleetRecord, folder: Path) -> None:
    """Make artefacts and adversarial sets in the first member's run folder and share them; open the others' run folders."""
    common = stored_settings(fleet.settings, folder)
    first, *others = [(entry.member.settings(common), folder / entry.folder) for entry in fleet.members]
    opened = all((place / RECORD).exists() for _, place in others)
    if not (first[1] / RECORD).exists() or (not opened and RunRecord.load(first[1]).status == Step.STARTED):
        spine.prepare(*first, fleet.command)
    for settings, place in others:
        if not (place / RECORD).exists():
            own = shutil.ignore_patterns(
                *(f"S4-{engine_name(flavour)}*" for flavour in settings.flavour_names)
            )  # made on one device's engines
            for part in SHARED:
                shutil.copytree(first[1] / part, place / part, copy_function=share, dirs_exist_ok=True, ignore=own)
            spine.open_only(settings, place, fleet.command)
    if (wanted := folder / spine.REQUIREMENTS).exists():
        for _, place in (first, *others):
            spine.keep_requirements(wanted, place)


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


def run_member(folder: Path, name: str, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)) -> int:
    """One member in its own process, its words passed on with the device's name before them; returns its exit code."""
    with subprocess.Popen(member_command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None  # noqa: S101
        while raw := process.stderr.readline(LINE_BYTES):
            say(f"{name} | {printable(raw.decode(errors='replace'), LINE_BYTES)}")
    return process.returncode


def member_command(folder: Path) -> list[str]:
    """The command line that goes on with a member's run."""
    return [sys.executable, "-m", "harness.cli", "bench", "--resume", str(folder), "--json"]


def folder_name(member: Member) -> str:
    """Of a member's run folder, inside the fleet's."""
    return f"{member.name}{'-emulated' if member.emulate else ''}"
