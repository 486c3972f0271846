"""What a device has and what it lacks, asked of its own Python through its transport."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devices.host.channel import Channel, Exit
from devices.host.errors import DeviceError
from devices.host.fields import read_table
from devices.host.gpus import ON_GPU
from devices.host.install import NEWER_PYTHON, System, remedies
from devices.host.pack import worker_archive
from devices.host.preflight import differences, in_words
from devices.host.profile import DeviceProfile
from devices.host.rules import State, check_fields
from devices.host.sysroot import Sysroot
from devices.host.transports import EMULATED, SSH, Facts, Say, connect
from devices.host.transports.emulated import find_qemu
from devices.worker.plain import cleaned, printable, read_json
from devices.worker.wire import ClosedError, NonsenseError

LIMIT_S = 120.0
LONGEST_S = 600.0  # that it may take in all, however much it says meanwhile
MOST_LINES, MOST_BYTES = 10_000, 1 << 24
OLDEST_PYTHON = (3, 10)

_WORKER = "worker.pyz"
_ANSWER = "=== answer"  # what a package prints when it is imported comes before; the lines after it are short
_ASK = f"""
import importlib, json, os, platform, sys, sysconfig
def first_line(path):
    try:
        return open(path, encoding="utf-8").readline().strip()
    except OSError:
        return ""
try:
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
except OSError:
    system = ""
venv = sys.prefix != sys.base_prefix
found = {{"python": platform.python_version(), "machine": platform.machine(), "system": system}}
asked = {{"name": system, "home": os.path.expanduser("~"), "machine": platform.machine(), "venv": venv,
          "l4t": first_line("/etc/nv_tegra_release"),
          "managed": not venv and os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED"))}}
for name in sys.argv[2:]:
    try:
        found[name] = importlib.import_module(name).__version__
    except Exception as error:
        found[name] = None
        print(name, type(error).__name__, error, file=sys.stderr)
state, closed = {{}}, ""
if found.get("numpy"):
    sys.path.insert(0, "{_WORKER}")
    from devices.worker.environment import describe_machine
    from devices.worker.gpu_access import barred
    from devices.worker.observed import gpu, observe
    from devices.worker.reader import Reader
    from devices.worker.spec import Watch
    watch = {{name: tuple(value) for name, value in json.loads(sys.argv[1]).items()}}
    if watch:
        state = observe(Reader(), Watch(**watch))
    machine = describe_machine()
    card = None if machine["emulator"] else gpu(Reader())
    closed = "" if machine["emulator"] else barred(Reader())
    found = machine | {{f"gpu_{{name}}": value for name, value in (card or {{}}).items()}} | found
print("{_ANSWER}")
print(json.dumps({{"found": found, "system": asked, "state": state, "gpu_barred": closed}}, indent=0))
"""


@dataclass(frozen=True)
class _Answer:
    """What the device prints."""

    found: dict[str, Any]
    system: System
    state: dict[str, Any]
    gpu_barred: str


@dataclass(frozen=True)
class Probe:
    """The answer.

    Attributes:
        found: facts by name; a package that cannot be imported is None.
        missing: what a job would need and the device lacks, one sentence with its remedy each.
        different: what is not as the profile declares it: power mode, clocks, memory, versions, with the remedy.
    """

    found: dict[str, Any]
    missing: list[str]
    different: list[str] = field(default_factory=list)


def probe(profile: DeviceProfile, say: Say | None = None) -> Probe:
    """Start the device's Python and ask for versions and the processor. Waits while a run has the device.

    Raises:
        DeviceError: the device cannot be reached, or its Python does not start.
    """
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="edge-harness-probe-") as name, connect(profile, say) as transport:
        folder = Path(name)
        (folder / _WORKER).write_bytes(worker_archive())
        there = transport.put(folder, lambda step, done, total: None)
        watched = None if profile.synthetic_clock else profile.watch
        asked = {} if watched is None else {name: getattr(watched, name) for name in ("power_query", "clocks_query", "providers")}
        ended = _run(transport.open([*transport.python, "-c", _ASK, json.dumps(asked), "numpy", *profile.runtimes], there), lines)
    if ended.hung or ended.code != 0 or _ANSWER not in lines:
        why = f"was silent for {LIMIT_S:g} s" if ended.hung else f"ended with code {ended.code}"
        raise DeviceError(f"Python on {profile.name} {why}: {' | '.join(ended.stderr[-2:])}")
    try:
        answer = read_table(_Answer, cleaned(read_json("\n".join(lines[lines.index(_ANSWER) + 1 :]))))
        check_fields("state", answer.state, State)
        versions = {name: _version(name, answer.found[name]) for name in profile.runtimes if answer.found[name]}
        missing = _missing(profile, answer.found, answer.system)
        if answer.gpu_barred and ON_GPU & set(profile.runtimes):
            missing.append(answer.gpu_barred)
    except (ValueError, KeyError, TypeError, AttributeError, DeviceError) as error:
        raise DeviceError(f"{profile.name} gave an answer that cannot be used: {printable(str(error))}") from error
    facts = Facts("", 1, None, state=answer.state, versions=versions)
    return Probe(answer.found, missing, [in_words(wrong) for wrong in differences(profile, facts, profile.runtimes)])


def _version(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the version of {name} is {printable(repr(value), 80)}; expected text")
    return value


def _run(channel: Channel, lines: list[str]) -> Exit:
    """Read a program's lines until it ends or is silent for `LIMIT_S`. Raises DeviceError: it talks without an end."""
    stop, size = time.monotonic() + LONGEST_S, 0
    try:
        while len(lines) < MOST_LINES and size < MOST_BYTES and time.monotonic() < stop:
            if (line := channel.line(LIMIT_S)) is None:
                return replace(channel.end(0.0), hung=True)
            lines.append(line.decode(errors="replace"))
            size += len(line)
    except NonsenseError:
        size = MOST_BYTES
    except ClosedError:
        return channel.end()
    except BaseException:  # an interrupt, say
        channel.end(0.0)
        raise
    channel.end(0.0)
    raise DeviceError(
        f"Python there does not stop talking: {len(lines)} lines, {size:,} bytes or more. Likely a package prints when it is imported."
    )


def prepare(profile: DeviceProfile, say: Say) -> None:
    """Make sure that this machine has what the emulation of a device needs; build or repair its sysroot.

    Raises:
        DeviceError: QEMU is not installed, or the sysroot cannot be built.
    """
    emulation = profile.emulation
    if emulation is None or not emulation.packages:
        say(f"{profile.name} needs no preparation")
        return
    find_qemu(emulation.machine)
    sysroot = Sysroot.of(emulation)
    if sysroot.finished:
        say(f"checking {sysroot.folder} ...")
        faults = sysroot.faults()
        if not faults:
            say("it is whole")
            return
        say(f"{len(faults)} files are missing or changed, the first: {faults[0]}; building it again")
    sysroot.build(say)


def _missing(profile: DeviceProfile, found: dict[str, Any], system: System) -> list[str]:
    missing = []
    if tuple(map(int, found["python"].split(".")[:2])) < OLDEST_PYTHON:
        missing.append(f"Python {found['python']} is too old: the worker needs 3.10 or newer. Install one beside it: {NEWER_PYTHON}")
    needed = ("numpy", *profile.runtimes)
    pins = (
        dict(package.split("==") for package in profile.emulation.packages) if profile.transport == EMULATED and profile.emulation else {}
    )
    absent = [name for name in needed if found[name] is None]
    if absent and not pins:
        missing += remedies(absent, system, profile.python if profile.transport == SSH else "python")
    for name in needed:
        if pins and name in absent:
            missing.append(f"{name} cannot be imported: harness devices prepare {profile.name}")
        elif pins.get(name, found[name]) != found[name]:
            missing.append(f"{name} is {found[name]}, the profile says {pins[name]}: harness devices prepare {profile.name}")
    return missing
