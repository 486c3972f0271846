"""Every name that the user gave is looked up before anything is loaded. Imports no torch: a wrong one is answered at once."""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

from devices.host.errors import DeviceError
from devices.host.profile import DeviceProfile, device_aliases, device_names, load_profile
from devices.host.transports import SSH
from devices.host.transports.openssh import check_host
from export.flavours import FLAVOURS
from harness import plugins
from harness.answers import TWIN
from harness.attacks.executors import check_executor
from harness.attacks.table import ALIASES, Attack, resolve
from harness.data.load import check_data
from harness.errors import UsageError, unknown
from harness.measurement.simulation import check_simulated, is_simulated
from harness.models.kinds import check_arch, check_kind
from harness.settings import FILE, OWN, Settings, check_numbers, engine_name, is_own
from harness.sources import PARENT, find_source, graph_name, simulated_name

ADAPTIVE_STEPS = ("apgd-ce", "apgd-dlr", "apgd-t")
SHELL = {"|", "||", "&&", "&", ";", "<", ">", ">>", "2>", "2>&1"}  # words that a shell keeps for itself


def check_names(settings: Settings) -> tuple[tuple[Attack, ...], DeviceProfile]:
    """Look up every name the user gave, before anything is loaded.

    Raises:
        UsageError: a model's file that is none, a flavour, attack or device that is in no table, a flavour that cannot be simulated on an
            emulated device, or an executor that cannot be had.
    """
    plugins.load(settings.plugins)
    check_numbers(settings)
    check_kind(settings.model)
    check_data(settings.data)
    check_arch(Path(settings.model), settings.arch)
    check_executor(settings.executor, settings.address)
    profile = find_profile(settings.device, emulate=settings.emulate, host=settings.host)
    for flavour in settings.flavour_names:
        if flavour.startswith(f"{OWN}:"):
            check_own(flavour)
        elif flavour.startswith(f"{FILE}:"):
            from harness.models.engine_file import check_engine_file, file_of, runtime_of

            check_engine_file(file_of(flavour))
            if is_simulated(runtime := runtime_of(flavour), profile):
                raise UsageError(
                    f"--engine {file_of(flavour)} runs on {runtime} alone, and {profile.name} is emulated: nothing here can look into the "
                    "file. Run it on the device itself, or give the ONNX file that it was made of."
                )
        elif flavour not in FLAVOURS and not is_own(flavour):
            raise unknown("flavour", flavour, [*FLAVOURS, f"{OWN}:COMMAND"])
    names = Counter(map(engine_name, dict.fromkeys(settings.flavour_names)))
    if twice := [name for name, count in names.items() if count > 1]:
        raise UsageError(f"two engines would be called {twice[0]}; give the files other names, or commands another beginning")
    rows = {TWIN, PARENT, *map(graph_name, names), *map(simulated_name, names)}
    if taken := [name for name in names if name in rows]:
        raise UsageError(
            f"an engine would be called {taken[0]}, and so is another model of this run, whose answers would be mixed with the engine's; "
            "give it another name"
        )
    for source in settings.sources:
        find_source(source)
    attacks = {attack.name: attack for attack in (for_tier(name, settings) for name in settings.attack_names)}
    check_simulated(settings.exported, profile)
    return tuple(attacks.values()), profile


def check_own(flavour: str) -> None:
    """Refuse `exec:COMMAND` that names no program, or wants a shell. Raises UsageError."""
    try:
        words = shlex.split(flavour.removeprefix(f"{OWN}:"))
    except ValueError as error:
        raise UsageError(f"--flavour {flavour}: {error}") from error
    if not words:
        raise UsageError(f"--flavour {flavour} names no program; expected {OWN}:COMMAND, such as {OWN}:./engine")
    if found := next((word for word in words if word in SHELL), None):
        raise UsageError(f"--flavour {flavour}: {found} is for a shell, and none reads this command. Write it as {OWN}:sh -c '…'.")
    if shutil.which(words[0]) is None:
        raise UsageError(f"--flavour {flavour}: no program {words[0]} can be run here; a path begins at the folder you are in.")


def find_profile(name: str, *, emulate: bool = False, host: str | None = None) -> DeviceProfile:
    """The device profile of that name; with `emulate`, of its CPU as QEMU emulates it; with `host`, reached there by SSH.

    Raises:
        UsageError: there is none (names the nearest), it cannot be emulated, or the host cannot be meant.
    """
    if name not in (aliases := device_aliases()) and name not in device_names():
        raise unknown("device", name, [*device_names(), *aliases])
    if emulate and host is not None:
        raise UsageError(f"--emulate runs {name}'s CPU on this machine, --host {host} is another one. Choose one of them.")
    try:
        profile = load_profile(name, emulate=emulate)
        if host is None:
            return profile
        check_host(host)
        return replace(profile, transport=SSH, host=host)
    except DeviceError as error:
        raise UsageError(f"--device {name}{' --emulate' if emulate else ''}{f' --host {host}' if host else ''}: {error}") from error


def for_tier(name: str, settings: Settings) -> Attack:
    """The attack of that name; Auto-PGD with the tier's number of iterations, unless the name says its own (apgd-ce-20)."""
    return resolve(name).with_steps(settings.plan.apgd_steps) if ALIASES.get(name, name) in ADAPTIVE_STEPS else resolve(name)
