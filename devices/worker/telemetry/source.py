"""What a provider is: a function `open_source(reader, watch)` that gives a source of samples, or says why there is none.

A sample is a dictionary "KIND:NAME" -> number, with the kinds of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Sample = dict[str, float]

# Kind of a channel -> what its number is. `events` and `energy_j` only grow; `throttled` is 0 while all is well; `ticks` are CPU time.
KINDS = {
    "power_w": "watts",
    "energy_j": "joules since some moment",
    "temperature_c": "degrees Celsius",
    "frequency_hz": "hertz",
    "utilisation": "share of the unit's time, 0 to 1",
    "memory_bytes": "bytes in use",
    "events": "throttling events since boot",
    "throttled": "bits of the reasons for throttling now",
    "ticks": "CPU time since boot, in ticks of the kernel",
    "quota": "CPUs that the control group may have, and its periods so far",
}


class AbsentError(Exception):
    """The provider finds nothing here. The message says what it looked for."""


@dataclass(frozen=True)
class Poll:
    """A source that is asked once a period."""

    sample: Callable[[], Sample]


@dataclass(frozen=True)
class Stream:
    """A command that prints a line once a period, and what a line means; an empty sample for a line that means nothing."""

    command: tuple[str, ...]
    parse: Callable[[str], Sample]


Source = Poll | Stream
