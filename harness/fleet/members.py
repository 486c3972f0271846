"""Which devices a fleet's run is about, as the command line says it. Imports no torch: a wrong name is answered at once."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import UsageError
from harness.settings import Settings
from harness.stages.names import check_names
from harness.toml.read import read_toml


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


def named(devices: list[str], file: Path | None, *, host: str | None, emulate: bool) -> list[Member]:
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


def check_fleet(members: list[Member], common: Settings) -> None:
    """Look up every name before anything is loaded.

    Raises:
        UsageError: as `check_names`, or a device that is named twice.
    """
    names = [folder_name(member) for member in members]
    if len(set(names)) < len(names):
        raise UsageError(f"a device is named twice: {', '.join(sorted(names))}")
    for member in members:
        check_names(member.settings(common))


def folder_name(member: Member) -> str:
    """Of a member's run folder, inside the fleet's."""
    return f"{member.name}{'-emulated' if member.emulate else ''}"
