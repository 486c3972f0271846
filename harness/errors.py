"""The tree of this project's own exceptions. Raised where the fault is seen, caught once, in `harness.cli`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """Anything the harness reports in one line instead of a traceback. `exit_code` is the process's."""

    exit_code = 2


class UsageError(HarnessError):
    """Wrong usage or input: the user can mend it. Exit code 2."""


class UntrustedError(HarnessError):
    """The run cannot support a verdict (a stored file changed, two runs are unlike). Exit code 3."""

    exit_code = 3


def unknown(kind: str, got: str, choices: Iterable[str]) -> UsageError:
    """The error for a name that is in no table: what came, the nearest names, every choice."""
    names = sorted(choices)
    near = difflib.get_close_matches(got, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"unknown {kind} '{got}'.{hint} Choices: {', '.join(names)}.")
