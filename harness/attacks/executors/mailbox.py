"""How a worker asks an engine that the driver holds open: the question lies in a mailbox until the driver has answered it.

Only the driver's main thread asks engines, one question at a time. Imports no torch, since the mailbox is a process of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NamedTuple

import ray

from harness.answers import Images, Logits


class Question(NamedTuple):
    """`images`, uint8 (n, h, w, c), for the judge with that id."""

    number: int
    judge: str
    images: Images


class Mailbox:
    """An asynchronous Ray actor, one for each set."""

    def __init__(self) -> None:
        self._asked: asyncio.Queue[Question] = asyncio.Queue()
        self._answers: list[asyncio.Future[Logits]] = []

    async def ask(self, judge: str, images: Images) -> Logits:
        """A worker's question; returns with the answer."""
        answer: asyncio.Future[Logits] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._asked.put_nowait(Question(len(self._answers) - 1, judge, images))
        return await answer

    async def next(self) -> Question:
        """The next question, as soon as there is one."""
        return await self._asked.get()

    async def answer(self, number: int, logits: Logits) -> None:
        """The driver's answer. Whose worker died meanwhile hears nothing: its batch is begun anew and asks again."""
        if not self._answers[number].done():
            self._answers[number].set_result(logits)


@dataclass(frozen=True)
class AskedByMail:
    """On a worker: a judge that only the driver can ask."""

    id: str
    sha256: str
    mailbox: Any

    def logits(self, images: Images) -> Logits:
        """The judge's, float32 (n, classes)."""
        answer: Logits = ray.get(self.mailbox.ask.remote(self.id, images))
        return answer
