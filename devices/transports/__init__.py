"""How to reach a device: put a folder there, run a command there, bring a folder back. Knows nothing of jobs, runtimes or results.

A new transport is one file and one line in `TRANSPORTS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from devices.errors import DeviceError

TRANSPORTS = {"local": "devices.transports.local:Local"}


@dataclass(frozen=True)
class Exit:
    """How a command ended.

    Attributes:
        code: its exit code; negative: the signal that killed it.
        hung: it was silent for too long and was killed.
        stderr: its last lines of standard error.
    """

    code: int
    hung: bool
    stderr: tuple[str, ...]


class Transport(Protocol):
    """A way to one device. All three raise `DeviceError` where the device cannot be reached.

    Attributes:
        python: the interpreter at the other end.
    """

    python: str

    def put(self, folder: Path) -> str:
        """Copy `folder` to the device; returns where it lies there."""

    def run(self, command: Sequence[str], there: str, on_line: Callable[[str], None], silence_limit_s: float) -> Exit:
        """Run `command` in the folder `there`; `on_line` gets each line of its standard output as it comes.

        A command that prints nothing for `silence_limit_s` is killed, with all it started; so is one whose caller is interrupted.
        """

    def get(self, there: str, folder: Path) -> None:
        """Copy the folder `there` back to `folder`, which does not exist yet (or is that very folder)."""


def connect(transport: str) -> Transport:
    """A transport by name.

    Raises:
        DeviceError: no such transport.
    """
    if transport not in TRANSPORTS:
        raise DeviceError(f"unknown transport '{transport}'. Choices: {', '.join(TRANSPORTS)}.")
    module, _, name = TRANSPORTS[transport].partition(":")
    made: Transport = getattr(importlib.import_module(module), name)()
    return made
