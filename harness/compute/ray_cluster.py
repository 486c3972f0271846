"""A Ray cluster: reached, or started on this machine. Ray is an optional part, imported only when it is asked for."""

from __future__ import annotations

import re
import socket
from typing import Any

from harness.errors import UsageError

RETRIES = 3  # of a task whose worker died
ANSWER_S = 10.0  # that a cluster's head may take


def check_ray() -> None:
    """Raise UsageError where Ray is not installed."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise UsageError(f"--executor ray needs Ray: pip install 'edge-harness[sweep]' ({error})") from error


def connect(address: str | None, *, logs: bool = True, **own: Any) -> None:
    """Join the cluster whose head is at `address` (`auto`: the one on this machine); None: start one here, that ends with this process.

    Args:
        logs: show what workers print.
        own: options of `ray.init` for a cluster that is started here.

    Raises:
        UsageError: no cluster answers.
    """
    import ray

    if address is not None and (place := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)):
        _reach(address, place[1], int(place[2]))
    options = {} if address else {"include_dashboard": False, **own}
    try:
        ray.init(address=address or "local", ignore_reinit_error=True, logging_level="warning", log_to_driver=logs, **options)  # type: ignore[arg-type]
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _silent(address, error) from error


def _reach(address: str, host: str, port: int) -> None:
    """Ray itself tries for minutes."""
    try:
        socket.create_connection((host, port), timeout=ANSWER_S).close()
    except OSError as error:
        raise _silent(address, error) from error


def _silent(address: str | None, error: Exception) -> UsageError:
    return UsageError(f"--address {address}: no Ray cluster answers there: {str(error).splitlines()[0]}")
