"""A process that ends with whoever started it. Standard library only, Python >= 3.10."""

from __future__ import annotations

import os
import select
import threading
import time


def end_with_caller(fd: int) -> None:
    """From now on, end this process once nobody holds the other end of `fd`: a killed caller or a lost connection leaves nothing behind."""
    threading.Thread(target=_watch, args=(fd,), daemon=True).start()


def _watch(fd: int) -> None:
    hangup = select.poll()
    hangup.register(fd, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
    hangup.poll()
    time.sleep(1.0)  # a request to close may still be read
    os._exit(1)
