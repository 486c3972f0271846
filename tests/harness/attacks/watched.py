"""The attack `noise`, watched: which batches are attacked is written down, and a worker can be made to die. Workers import it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from harness.attacks.noise import noise as real
from harness.attacks.search import Search
from harness.attacks.table import Attack

FOLDER = "WATCHED"  # the environment's variable that names it
ATTACK = Attack("watched", "test", "Linf", 10, "eps", "noise", "watched:noise", bf16=False)


def noise(search: Search, *, steps: int) -> None:
    """As `noise`. Where there is a file `die`, it goes and so does this process."""
    folder = Path(os.environ[FOLDER])
    with (folder / "log").open("a") as log:
        log.write(f"{search.seeds[0]}\n")
    try:
        (folder / "die").unlink()
    except FileNotFoundError:
        real(search, steps=steps)
    else:
        os.kill(os.getpid(), signal.SIGKILL)
