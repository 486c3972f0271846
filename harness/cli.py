"""The command line: a table of commands, each in a file of `harness.commands`. Errors of every room are caught here, once.

Imports no torch at start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, redirect_stderr
from pathlib import Path
from typing import Annotated

import typer

from harness.commands import (
    attack,
    bench,
    compare,
    compress,
    devices,
    doctor,
    export,
    history,
    lint,
    models,
    profile,
    report,
    reproduce,
    requirements,
    selftest,
    sweep,
    train,
    validate,
)
from harness.compute.allocator import keep_freed_memory
from harness.compute.openmp import sleep_while_waiting
from harness.errors import UsageError

app = typer.Typer(
    help="Does a compressed classifier's robustness still hold on the engine that is deployed, and what does it cost there?",
    epilog="Start with: harness bench",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def print_version(asked: bool) -> None:
    """`--version`."""
    if asked:
        from harness import __version__

        print(__version__)
        raise typer.Exit


@app.callback(epilog="Start with: harness bench")
def root(
    _debug: Annotated[bool, typer.Option("--debug", help="show a traceback on errors; accepted anywhere on the line")] = False,
    _quiet: Annotated[bool, typer.Option("--quiet", help="show the result and errors, no progress; accepted anywhere on the line")] = False,
    _version: Annotated[bool, typer.Option("--version", is_eager=True, callback=print_version, help="print the version and stop")] = False,
) -> None:
    """Does a compressed classifier's robustness still hold on the engine that is deployed, and what does it cost there?"""


# In the order of `--help`.
app.command(epilog=bench.EPILOG)(bench.bench)
app.command(epilog=profile.EPILOG)(profile.profile)
app.command(epilog=export.EPILOG)(export.export)
app.command(epilog=attack.EPILOG)(attack.attack)
app.command(epilog=train.EPILOG)(train.train)
app.command(epilog=report.EPILOG)(report.report)
app.command(epilog=lint.EPILOG)(lint.lint)
app.command(epilog=compress.EPILOG)(compress.compress)
app.command(epilog=sweep.EPILOG)(sweep.sweep)
app.command(epilog=reproduce.EPILOG)(reproduce.reproduce)
app.command("init-requirements", epilog=requirements.EPILOG)(requirements.init_requirements)
app.command(epilog=compare.EPILOG)(compare.compare)
app.command(epilog=history.EPILOG)(history.history)
app.command(epilog=doctor.EPILOG)(doctor.doctor)
app.command(epilog=selftest.EPILOG)(selftest.selftest)
app.command(epilog=validate.EPILOG)(validate.validate)
app.add_typer(devices.app, name="devices")
app.add_typer(models.app, name="models")


def check_utf8(words: Sequence[str]) -> None:
    """Refuse a name that records, which are UTF-8, and the libraries that are given it as UTF-8 cannot hold.

    Raises:
        UsageError: names it and what to do.
    """
    for word in words:
        if (raw := os.fsencode(word)) != word.encode("utf-8", "replace"):
            here = sys.getfilesystemencoding()
            what_to_do = (
                "Rename it." if here == "utf-8" else f"This computer's language setting is {here}: set PYTHONUTF8=1, or LC_ALL=C.UTF-8."
            )
            raise UsageError(f"{ascii(raw)[1:]} cannot be read, or passed on, as UTF-8; expected names in UTF-8. {what_to_do}")


def main() -> None:
    """Entry point of `harness`. Every error becomes one line on standard error and its exit code; see `harness.ending`."""
    from harness.ending import end_well

    debug, quiet = "--debug" in sys.argv, "--quiet" in sys.argv
    keep_freed_memory()
    sleep_while_waiting()
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--debug", "--quiet")]

    def run() -> None:
        check_utf8(arguments)
        with (
            redirect_stderr(stack.enter_context(Path(os.devnull).open("w", encoding="utf-8", errors="replace"))) if quiet else nullcontext()
        ):
            app(args=arguments)

    with ExitStack() as stack:
        code = end_well(run, debug=debug)  # which says errors where standard error really is
    sys.exit(code)


if __name__ == "__main__":
    main()
