"""The options of a run: validated once, kept in the record, read back by a resumed run. Imports no torch."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.eps import parse_eps
from harness.errors import UntrustedError, UsageError
from harness.records import RECORD

Tier = Literal["quick", "bench", "qualify"]


@dataclass(frozen=True)
class TierPlan:
    """What a tier spends: attacked images, non-inferiority margin, attacks and their iterations, whether each attack is made on every
    image, steps of BPDA and queries from each start, measuring time per batch size and rounds, engines built of each flavour, and seeds of
    the attacks.
    """

    samples: int
    margin: float
    attacks: tuple[str, ...]
    exhaustive: bool
    apgd_steps: int
    bpda_steps: int
    queries: int
    measure_s: float
    warmup_s: float
    rounds: int
    builds: int = 1
    seeds: int = 1


ATTACKS = ("pgd", "apgd-ce", "apgd-dlr")
TARGETED = (*ATTACKS, "apgd-t")
TIERS: dict[Tier, TierPlan] = {
    "quick": TierPlan(
        256, 0.05, ATTACKS, exhaustive=False, apgd_steps=50, bpda_steps=20, queries=30, measure_s=0.6, warmup_s=0.3, rounds=5
    ),
    "bench": TierPlan(
        1000, 0.02, TARGETED, exhaustive=False, apgd_steps=100, bpda_steps=50, queries=1000, measure_s=10.0, warmup_s=2.0, rounds=10
    ),
    "qualify": TierPlan(
        1000,
        0.02,
        TARGETED,
        exhaustive=True,
        apgd_steps=100,
        bpda_steps=100,
        queries=5000,
        measure_s=60.0,
        warmup_s=5.0,
        rounds=20,
        builds=3,
        seeds=3,
    ),
}

DEFAULT_EPS = "8/255"
OWN = "exec"  # a flavour `exec:COMMAND` is the user's own engine
GIVEN = "python"  # a flavour `python:NAME` is a function or a session that `harness.bench` was given
FILE = "file"  # a flavour `file:PATH` is a file of the user's own that runs as it is
RECORD_BEGUN = "record.tmp"  # left where the process died before its first record was whole
LOCK = ".lock"  # of a run folder; a folder with nothing else in it was never begun
REPORT_FILES = ("report.html", "report.md")  # what the commands write that report on several runs
NEVER_BEGUN = (LOCK, RECORD_BEGUN)  # a folder that holds these alone is as good as empty
FLEET = "fleet.json"  # in the run folder of several devices
LARGEST = 2**31 - 1  # of a count: what a runtime takes for one
CURVE = tuple(Fraction(k, 255) for k in (1, 2, 4, 8))


def engine_name(flavour: str) -> str:
    """What a flavour's engine is called in the record: as the flavour; of the user's own engines and files, what a file may be called."""
    kind, own, rest = flavour.partition(":")
    if not own:
        return flavour
    name = {FILE: Path(rest).name, GIVEN: rest}.get(kind, flavour)
    return re.sub(r"[^\w.+-]+", "-", name).strip("-")[:60]


class Settings(BaseModel):
    """One run's options, all of them.

    `flavours`, `attacks`, `exhaustive`, `samples`, `eps`, `margin`, `builds`, `threads` are None where the user left the choice to device,
    tier and the model's card. No `sources`: those of the tier.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    arch: str | None = None
    classes: int | None = None
    normalize: str | None = None
    image_size: int | None = None
    data: str = "cifar10-sample"
    device: str = "host"
    emulate: bool = False
    host: str | None = None
    flavours: tuple[str, ...] | None = None
    attacks: tuple[str, ...] | None = None
    eps: str | None = None
    samples: int | None = None
    tier: Tier = "quick"
    margin: str | None = None
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    batches: tuple[int, ...] = (1, 8, 32)
    scenario: Literal["SingleStream", "Offline"] | None = None
    threads: int | None = None
    seed: int = 0
    sources: tuple[str, ...] = ()
    exhaustive: bool | None = None
    builds: int | None = None
    plugins: tuple[str, ...] = ()
    executor: Literal["local", "ray"] = "local"
    address: str | None = None

    @property
    def exported(self) -> tuple[str, ...]:
        """The flavours that are exported here: all but the user's own engines and files."""
        return tuple(flavour for flavour in self.flavour_names if not is_own(flavour) and flavour not in self.files)

    @property
    def files(self) -> tuple[str, ...]:
        """The flavours that are files of the user's own, run as they are."""
        return tuple(flavour for flavour in self.flavour_names if flavour.startswith(f"{FILE}:"))

    @property
    def flavour_names(self) -> tuple[str, ...]:
        """The option, else what the device's profile names.

        Raises:
            DeviceError: no such device.
        """
        from devices.host.profile import load_profile

        return load_profile(self.device, emulate=self.emulate).flavours if self.flavours is None else self.flavours

    @property
    def plan(self) -> TierPlan:
        """The tier's plan."""
        return TIERS[self.tier]

    @property
    def allowed(self) -> float:
        """The gap that a claim allows, as a share: the option's points, else the tier's.

        Raises:
            UsageError: no number of points above 0 and below 100.
        """
        if self.margin is None:
            return self.plan.margin
        from harness.requirements.units import POINTS

        try:
            found = POINTS.parse(self.margin)
        except ValueError as error:
            raise UsageError(f"--margin {self.margin}: {error}") from error
        if not isinstance(found, float) or not 0 < found < 1:
            raise UsageError(f"--margin {self.margin}: expected more than 0 points and fewer than 100, such as 2pt")
        return found

    @property
    def attack_names(self) -> tuple[str, ...]:
        """The option, else the tier's."""
        return self.plan.attacks if self.attacks is None else self.attacks

    @property
    def every_image(self) -> bool:
        """Whether every attack is made on every image: the option, else the tier's."""
        return self.plan.exhaustive if self.exhaustive is None else self.exhaustive

    @property
    def each_built(self) -> int:
        """Engines of each flavour: the option, else the tier's."""
        return self.plan.builds if self.builds is None else self.builds

    def radius(self, card_eps: str | None) -> Fraction:
        """The primary radius: the option, else the claim on the model's card, else 8/255."""
        return parse_eps(self.eps or card_eps or DEFAULT_EPS)


def is_own(flavour: str) -> bool:
    """Whether it is an engine of the user's own: nothing is exported for it."""
    return flavour.startswith((f"{OWN}:", f"{GIVEN}:"))


def make_settings(**options: Any) -> Settings:
    """The settings of these values; those that are None keep the defaults of `Settings`.

    Raises:
        UsageError: a value that is not of its option.
    """
    try:
        return Settings.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--{first['loc'][0]} {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}") from error


def stored_settings(stored: dict[str, Any], folder: Path) -> Settings:
    """The settings that a record in `folder` holds.

    Raises:
        UntrustedError: they are not those of this version.
    """
    try:
        return Settings.model_validate(stored)
    except ValidationError as error:
        raise UntrustedError(
            f"the settings in {folder} are not those of this version: {error.errors()[0]['msg']}. Start a new run."
        ) from error


def check_resumed(settings: Settings, model: str, folder: Path) -> None:
    """Refuse options beside --resume that are not those of the run: it would be finished, and answer, without them.

    Args:
        settings: of the command line.
        model: its default.
        folder: of the run. What cannot be read there, whoever goes on with it refuses.

    Raises:
        UsageError: names each option, its value and the run's.
    """
    begun = folder / (FLEET if (folder / FLEET).exists() else RECORD)
    try:
        stored = json.loads(begun.read_text(encoding="utf-8"))["settings"]
        was = Settings.model_validate(stored).model_dump(mode="json")
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return
    asked = settings.model_dump(mode="json", exclude_defaults=True)
    if asked["model"] == model:
        del asked["model"]
    others = [f"--{_option(key)} {_words(value)} (begun with {_words(was[key])})" for key, value in asked.items() if value != was[key]]
    if others:
        raise UsageError(
            f"{', '.join(others)}: options are said when a run begins, and --resume goes on with those of {begun}. Leave them out, or "
            "start a new run."
        )


def _option(key: str) -> str:
    """What the setting is called on the command line; of those that can be repeated one."""
    several = {"flavours": "flavour", "attacks": "attack", "sources": "source", "plugins": "plugin", "batches": "batch"}
    return several.get(key, key.replace("_", "-"))


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) and value else "none" if value in (None, []) else str(value)


def check_numbers(settings: Settings) -> None:
    """Check what no file is needed for.

    Raises:
        UsageError: a radius, count or batch size that cannot be meant.
    """
    if settings.eps is not None and parse_eps(settings.eps) == 0:
        raise UsageError(
            "--eps 0 attacks nothing. Expected a radius above 0, such as 8/255 (or use `harness profile` for latency and memory only)."
        )
    at_least_one = {
        "--samples": settings.samples,
        "--threads": settings.threads,
        "--classes": settings.classes,
        "--image-size": settings.image_size,
        "--builds": settings.builds,
    }
    for option, value in (*at_least_one.items(), *(("--batch", b) for b in settings.batches)):
        if value is not None and not 1 <= value <= LARGEST:
            raise UsageError(f"{option} {value}: expected a whole number of at least 1{f', at most {LARGEST:,}' if value > 0 else ''}")
    check_seed(settings.seed)
    _ = settings.allowed


def check_seed(seed: int) -> None:
    """Refuse a seed that the generators or the tables do not take. Raises UsageError."""
    if not 0 <= seed <= LARGEST:
        raise UsageError(f"--seed {seed}: expected a whole number of at least 0{f', at most {LARGEST:,}' if seed > 0 else ''}")


def check_output(out: Path, own: Collection[str] = ()) -> None:
    """Refuse an output folder that would overwrite something.

    Args:
        out: the folder.
        own: names of files that may lie there, since the command writes them again; none for a run.

    Raises:
        UsageError: `out` is a file, a folder that holds something else, or cannot be made.
    """
    if out.is_dir() and any(path.name not in (*NEVER_BEGUN, *own) for path in out.iterdir()):
        instead = (
            f"expected a folder with {' and '.join(own)} alone"
            if own
            else f"or go on with that run: harness bench --resume {shlex.quote(str(out))}"
        )
        raise UsageError(f"--out {out} is not empty. Choose another folder, {instead}")
    check_folder("--out", out)


def check_folder(option: str, folder: Path) -> None:
    """Refuse, before any work, a folder that cannot be made or written to.

    Raises:
        UsageError: names `option`.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{option} {folder} is a file; expected a folder")
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"{option} {folder} cannot be made: {there} is not a folder that can be written to")


def check_file(option: str, file: Path | None) -> None:
    """Refuse, before any work, a file that could not be written after it.

    Raises:
        UsageError: names `option`.
    """
    if file is None:
        return
    if not file.parent.is_dir():
        raise UsageError(f"{option} {file}: there is no folder {file.parent}")
    if file.is_dir():
        raise UsageError(f"{option} {file} is a folder; expected the name of a file")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UsageError(f"{option} {file} cannot be written to")
