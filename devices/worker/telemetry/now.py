"""What the device's sensors say at this moment, for whoever watches a run. Nothing of it is kept, and no figure rests on it."""

from __future__ import annotations

import importlib
import os
import selectors
import time
from contextlib import suppress

from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry import PROVIDERS
from devices.worker.telemetry.source import AbsentError, Poll, Sample, Source, Stream

SHOWN = ("temperature_c", "frequency_hz", "power_w")
LIMIT_S = 1.0  # for the first line of a command that prints one every period
_BLOCK = 1 << 16


class Sensors:
    """The sensors that a profile names. Those that are not there are looked for once, when they are first read."""

    def __init__(self, watch: Watch, reader: Reader) -> None:
        self._watch, self._reader = watch, reader
        self._sources: list[Source] | None = None

    def read(self) -> Sample:
        """Temperatures, clocks and power, by channel; empty where there is no sensor."""
        if self._sources is None:
            self._sources = [source for name in self._watch.providers if (source := self._open(name)) is not None]
        found: Sample = {}
        for source in self._sources:
            found |= source.sample() if isinstance(source, Poll) else self._first(source)
        return {channel: value for channel, value in found.items() if channel.partition(":")[0] in SHOWN}

    def _open(self, name: str) -> Source | None:
        with suppress(AbsentError, OSError):
            source: Source = importlib.import_module(PROVIDERS[name]).open_source(self._reader, self._watch)
            return source
        return None

    def _first(self, stream: Stream) -> Sample:
        """What the first line means that a command prints; it is ended then."""
        try:
            process = self._reader.stream(stream.command)
        except OSError:
            return {}
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        text, end = b"", time.monotonic() + LIMIT_S
        with process.stdout, selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in text and (left_s := end - time.monotonic()) > 0 and selector.select(left_s):
                if not (block := os.read(process.stdout.fileno(), _BLOCK)):
                    break
                text += block
            process.kill()
            process.wait()
        return stream.parse(text.partition(b"\n")[0].decode(errors="replace"))
