"""`harness devices`: what runs can use, what each device has, and what it needs to be ready."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from devices.host.errors import DeviceError
from harness.commands.options import AsJson, Emulate, Host

KEPT = {  # in one word, and in more
    "store": ("sent file", "sent files"),
    "jobs": ("folder of a run", "folders of runs"),
    "engines": ("built engine or table of kernel times", "built engines and tables of kernel times"),
}

app = typer.Typer(help="The devices a run can use.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_devices(as_json: AsJson = False) -> None:
    """Every device profile."""
    from rich.console import Console

    from devices.host.profile import device_names, load_profile
    from harness.commands.device_text import overview
    from reports.format import clean

    profiles = []
    for name in device_names():
        try:
            profiles.append(load_profile(name))
        except DeviceError as error:  # a user's own file: the others are as they were
            print(f"harness: not usable: {clean(str(error))}", file=sys.stderr)
    if as_json:
        facts = ("name", "aliases", "kind", "transport", "verified_on_hardware", "description")
        print(json.dumps([{fact: getattr(p, fact) for fact in facts} for p in profiles], indent=1))
    else:
        Console().print(overview(profiles))


@app.command("show", epilog="Example: harness devices show jetson-orin")
def show_device(name: Annotated[str, typer.Argument(help="a device profile or an alias")], as_json: AsJson = False) -> None:
    """Print one device profile in full. What is declared and compared, how it is sampled, its peaks with their sources."""
    from dataclasses import asdict

    from rich.console import Console

    from harness.commands.device_text import in_full
    from harness.stages.names import find_profile

    profile = find_profile(name)
    if as_json:
        print(json.dumps(asdict(profile), indent=1, default=str))
    else:
        Console().print(in_full(profile))


@app.command("probe", epilog="Example: harness devices probe jetson-orin --host me@192.168.55.1")
def probe_device(
    name: Annotated[str, typer.Argument(help="a device profile")], emulate: Emulate = False, host: Host = None, as_json: AsJson = False
) -> None:
    """Say what a device has, and what it lacks for a job. What is not as declared too; exit code 4 where there is anything of these two."""
    from dataclasses import asdict

    from devices.host.probe import probe
    from harness.stages.names import find_profile

    seen = probe(find_profile(name, emulate=emulate, host=host), lambda line: print(f"harness: {line}", file=sys.stderr))
    if as_json:
        print(json.dumps(asdict(seen), indent=1))
    else:
        for key, value in seen.found.items():
            print(f"{key:16} {' '.join(map(str, value)) if isinstance(value, list) else value}")
        for line in seen.missing:
            print(f"MISSING          {line}")
        for line in seen.different:
            print(f"NOT AS DECLARED  {line}")
    if seen.missing or seen.different:
        raise typer.Exit(4)


@app.command("clean", epilog="Example: harness devices clean jetson-orin --host me@192.168.55.1")
def clean_device(
    name: Annotated[str, typer.Argument(help="a device profile")], emulate: Emulate = False, host: Host = None, as_json: AsJson = False
) -> None:
    """Throw away what runs left on a device. Files that were sent, folders of runs that were broken off, engines that were built.

    Waits while a run has the device. The next run sends, and builds, again.
    """
    from dataclasses import asdict

    from devices.host.transports import connect
    from harness.stages.names import find_profile
    from reports.format import size

    with connect(find_profile(name, emulate=emulate, host=host), lambda line: print(f"harness: {line}", file=sys.stderr)) as device:
        cleaned = device.clean()
    if as_json:
        print(json.dumps(asdict(cleaned), indent=1))
        return
    counted = ((cleaned.removed.get(part, 0), words) for part, words in KEPT.items())
    parts = [f"{count} {words[count != 1]}" for count, words in counted if count]
    print(f"{name}: {', '.join(parts)} removed, {size(cleaned.freed_bytes)} freed" if parts else f"{name}: there was nothing to remove")


@app.command("prepare", epilog="Example: harness devices prepare raspberry-pi-4")
def prepare_device(name: Annotated[str, typer.Argument(help="a device profile")]) -> None:
    """Fetch what the emulation of a device needs. It goes into the cache folder; what is there is checked and repaired."""
    from devices.host.probe import prepare, probe
    from harness.stages.names import find_profile

    profile = find_profile(name)
    prepare(profile, lambda line: print(line, file=sys.stderr, flush=True))
    seen = probe(find_profile(name, emulate=profile.emulation is not None))
    if seen.missing:
        raise DeviceError(f"{name} is not ready: {'; '.join(seen.missing)}")
    print(f"{name} is ready: " + ", ".join(f"{key} {seen.found[key]}" for key in ("python", "numpy", *profile.runtimes)))
