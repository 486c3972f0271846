"""What a figure was measured on, in a line."""

from __future__ import annotations

import os

from devices.worker.environment import describe_machine


def machine_line(threads: int | None = None) -> str:
    """CPU, threads (by default all that this process may use), instruction sets that matter, and the load now."""
    seen = describe_machine()
    count = threads or len(os.sched_getaffinity(0))
    return f"{seen['cpu_model']}, {count} thread{'s' if count > 1 else ''}, {', '.join(seen['isa_flags'])}; load {os.getloadavg()[0]:.2f}"
