"""What every long command says on Ctrl-C."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from harness.ending import InterruptedByUser


def same_command() -> str:
    """The words of this command."""
    return shlex.join(["harness", *sys.argv[1:]])


@contextmanager
def going_on(how: Callable[[], str | None] = same_command) -> Iterator[None]:
    """Say on Ctrl-C what goes on with what was finished: `how()`, or nothing where there is none of it."""
    try:
        yield
    except KeyboardInterrupt as error:
        with suppress(OSError):  # whoever read it may have been stopped with this program
            if (command := how()) is not None:
                print(
                    f"harness: {str(error) or 'interrupted'}. What was finished is kept; go on with: {command}", file=sys.stderr, flush=True
                )
                if isinstance(error, InterruptedByUser):
                    error.told = True
        raise
