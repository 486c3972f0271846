"""The measurement held against itself: timed answers, remembered answers, an engine's own clock."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.host.rounds import Timing
from devices.host.session import EngineError, EngineSession
from export.scale import apart, largest, most
from harness.answers import Images, Index, Logits
from harness.limits import LIMITS
from harness.measurement.facts import Checks, Loose

REPEATS = 3  # passes over the same images
PAIRS, PAIR_CALLS = 20, 5  # of the test for remembered answers
ATTEMPTS = 3  # of the same on a busy computer
QUICK = 0.1  # share of the requests of a user's own engine that are quick
CLOCKED_NS, MOST_CLOCKED = 50e6, 10_000  # of calls on an engine's own clock that are held against the wall's, and how many at most
BYTE_NS = 10  # that the way of a byte and its conversion to float32 may take: a hundredth of a second for a megabyte


class _Timed(Loose):
    offsets: list[int]


def self_checks(session: EngineSession, pool: Images, answers: Logits, timings: Mapping[int, Timing], own: bool) -> Checks:
    """Whether an engine answers alike again and, where it was timed, as it did then.

    Args:
        session: the open engine.
        pool: the images of the timed calls, uint8 (n, h, w, c).
        answers: its untimed answers to them, float32 (n, classes).
        timings: batch size -> its timed calls; empty where it was not timed.
        own: a program of the user's own.

    Raises:
        EngineError: the engine failed meanwhile.
    """
    head = pool[: session.batch]
    passes = [answers[: session.batch], *(session.logits(head) for _ in range(REPEATS))]
    checks = Checks(deterministic=all(np.array_equal(once, passes[0]) for once in passes), repeats=REPEATS)
    if not timings:
        return checks
    return checks.model_copy(update=(_of_own_engine if own else _of_worker)(session, pool, answers, timings))


def _of_own_engine(session: EngineSession, pool: Images, answers: Logits, timings: Mapping[int, Timing]) -> dict[str, Any]:
    """The fields of `Checks` that a timed engine of the user's own adds."""
    # First of all: more timed calls would take the place of these.
    timed = [(logits, _places(first, len(logits), len(answers))) for kept in session.timed.values() for first, logits in kept.items()]
    clock = None
    if session.hello.measure:
        clock = _own_clock(session, timings)
        clock = clock if clock > 1 else min(clock, _own_work(session, pool))
    found: dict[str, Any] = {"repeated_to_fresh_latency": _remembers(session, pool), "own_clock": clock}
    if not timed:  # its own clock's calls give no answers
        return found
    remembered = [_remembered_while_timed(session, pool, batch, timing) for batch, timing in timings.items()]
    found["repeated_to_fresh_latency"] = min(found["repeated_to_fresh_latency"], *remembered)
    return found | _timed_alike(timed, answers, LIMITS.fresh_error)


def _of_worker(session: EngineSession, _pool: Images, answers: Logits, timings: Mapping[int, Timing]) -> dict[str, Any]:
    """The fields of `Checks` that an engine of the worker's adds where it was timed."""
    parts = [_timed(session, batch, answers) for batch in timings]
    again, new = [], []
    for _ in range(PAIRS):
        again.append(int(session.measure(1, PAIR_CALLS, same=True).ns.min()))
        new.append(int(session.measure(1, PAIR_CALLS).ns.min()))
    return {"repeated_to_fresh_latency": min(again) / min(new), **_timed_alike(parts, answers, LIMITS.logit_error)}


def _timed_alike(parts: Sequence[tuple[Logits, Index]], answers: Logits, limit: float) -> dict[str, Any]:
    """Whether timed answers, float (m, classes) and the places of their images each, are the untimed ones, float (n, classes)."""
    timed, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
    error = most(answers[rows], timed)
    return {"timed_max_logit_error": error, "timed_outputs_equal_accuracy_outputs": _equal(timed, answers, rows, limit)}


def _equal(timed: Logits, answers: Logits, rows: Index, limit: float) -> bool:
    """Whether timed answers, float (m, classes), are the untimed ones at `rows` of float (n, classes), within a share of the largest."""
    return bool((apart(answers[rows], timed) <= limit * largest(answers)).all())


def _places(first: int, batch: int, n: int) -> Index:
    """Of the images of a timed call among the pool's n."""
    return np.arange(first, first + batch) % n


def _remembers(session: EngineSession, pool: Images) -> float:
    """Of a user's own engine: the time of a request that it has answered before, over that of images which nobody has seen.

    Those are shifted, so that they are far from all that it was shown: a memory may take what is nearly the same for the same. Each of the
    two comes first in half of the turns, as an engine that has waited for a request answers it later. Held against each other are the times
    that a tenth of the requests keep to: the fastest of all is a matter of luck. So may all be, beside other programs: what is quicker is
    asked for once more, some times.
    """
    draw, known = np.random.default_rng(0), pool[:1]
    share = 0.0
    for _ in range(ATTEMPTS):
        again: list[int] = []
        new: list[int] = []
        for turn in range(PAIRS * PAIR_CALLS):
            both = [(again, known), (new, _unseen(pool[turn % len(pool)][None], draw))]
            for times, images in both if turn % 2 else reversed(both):
                times.append(_request_ns(session, images))
        share = max(share, _quick(again) / _quick(new))
        if share >= LIMITS.repeated_speed:
            break
    return share


def _unseen(images: Images, draw: np.random.Generator) -> Images:
    """Images that nobody has seen, far from these, uint8 (n, h, w, c)."""
    shifts = [int(draw.integers(1, max(side, 2))) for side in images.shape[1:3]]
    unseen: Images = np.roll(images, shifts, axis=(1, 2)) ^ draw.integers(0, 4, images.shape, np.uint8)
    return unseen


def _remembered_while_timed(session: EngineSession, pool: Images, batch: int, timing: Timing) -> float:
    """Of a user's own engine: the time of its timed calls over that of requests of as many images which nobody has seen.

    It may remember where nothing new comes between, or requests of some size alone. Where the timed calls were quicker, the computer may
    be busier since: they are made once more, warm-up and round in one, and the same requests and new ones right behind them, until these
    are no slower.
    """
    draw, known = np.random.default_rng(batch), [pool[_places(first, batch, len(pool))] for first in range(PAIR_CALLS)]
    calls = len(timing.warmup_ns) + int(np.bincount(timing.round).max())
    again: list[int] = []
    new: list[int] = []
    for _ in range(PAIRS):
        unseen = [_unseen(images, draw) for images in known]
        session.measure(batch, calls)
        again += [_request_ns(session, images) for images in known]
        new += [_request_ns(session, images) for images in unseen]
        share = max(_quick(timing.latency_ns), _quick(again)) / _quick(new)
        if share >= LIMITS.repeated_speed:
            break
    return share


def _quick(ns: Sequence[int] | NDArray[np.int64]) -> float:
    """The nanoseconds that a tenth of the requests keep to."""
    return float(np.quantile(ns, QUICK))


def _own_clock(session: EngineSession, timings: Mapping[int, Timing]) -> float:
    """What an engine's own clock says of its calls, over what passes here, of the batch size at which it says the least, or too much."""
    shares = [_share_of_clock(session, batch) for batch in timings]
    return max(shares) if max(shares) > 1 / LIMITS.own_clock else min(shares)


def _share_of_clock(session: EngineSession, batch: int) -> float:
    """The time of more calls, less that of fewer, in one request, by the engine's clock over the one here.

    The largest of some, at most 1, as other work makes time pass here; where even the smallest is too large, that one.
    """
    calls, shares = PAIR_CALLS, []
    while _clocked(session, batch, calls)[1] < CLOCKED_NS and calls < MOST_CLOCKED:
        calls *= 2
    for _ in range(PAIR_CALLS):
        (some, began), (more, ended) = (_clocked(session, batch, repeats) for repeats in (1, 1 + calls))
        shares.append((more - some) / max(ended - began, 1))
    return min(shares) if min(shares) > 1 / LIMITS.own_clock else min(max(shares), 1.0)


def _clocked(session: EngineSession, batch: int, repeats: int) -> tuple[int, int]:
    """Nanoseconds of calls by the engine's clock, and those that passed here."""
    start = time.perf_counter_ns()
    reported = int(session.measure(batch, repeats).ns.sum())
    return reported, time.perf_counter_ns() - start


def _own_work(session: EngineSession, pool: Images) -> float:
    """What an engine's own clock says of its calls, over what they take where their answers are asked for: it may do less where it only
    times itself, of some numbers of images alone. The smallest share over sizes that double, at most 1, of the first attempt that is sound:
    other work on this computer makes requests take longer.

    How long the way is nobody knows, so that the times of two sizes are held against each other: what further images of a call take, but
    for the way and the conversion of the bytes, which its clock need not count; and what is left of the larger call without them, which
    is what the smaller one takes, its own part of the images at most.
    """
    most = max(min(len(pool), session.batch), 2)
    sizes = [*(size for size in (2**power for power in range(most.bit_length())) if size < most), most]
    elapsed, reported = dict.fromkeys(sizes, math.inf), dict.fromkeys(sizes, math.inf)
    for _ in range(PAIRS):
        for size in sizes:
            images = pool[np.arange(size) % len(pool)]
            elapsed[size] = min(elapsed[size], *(_request_ns(session, images) for _ in range(PAIR_CALLS)))
            reported[size] = min(reported[size], int(session.measure(size, PAIR_CALLS).ns.min()))
        shares, of_bytes = [1.0], (most - 1) * pool[0].nbytes * BYTE_NS
        further = elapsed[most] - elapsed[1] - of_bytes
        if further > max(of_bytes, elapsed[most] / 2):
            shares.append((reported[most] - reported[1]) / further)
        for some, many in itertools.pairwise(sizes):
            left = min(reported[many] - (elapsed[many] - elapsed[some]), reported[many] * some / many)
            if left > 0 and reported[many] > elapsed[many] / 2:  # else the way is too long to tell
                shares.append(reported[some] / left)
        if min(shares) >= LIMITS.own_clock:
            break
    return min(shares)


def _request_ns(session: EngineSession, images: Images) -> int:
    start = time.perf_counter_ns()
    session.logits(images)
    return time.perf_counter_ns() - start


def _timed(session: EngineSession, batch: int, answers: Logits) -> tuple[Logits, Index]:
    """The answers to timed calls, float32 (m, classes), and the places of their images among those of `answers`, (n, classes)."""
    header, files = session.call({"op": "timed", "batch": batch}, _Timed)
    raw, classes = files.get("logits", b""), session.hello.classes
    expected = 4 * len(header.offsets) * batch * classes
    if len(raw) != expected or not all(0 <= offset < len(answers) for offset in header.offsets):
        raise EngineError("crashed", f"it returned {len(raw)} bytes of logits; expected {expected} of {len(header.offsets)} timed calls")
    timed = np.frombuffer(raw, "<f4").reshape(-1, classes)
    if not np.isfinite(timed).all():
        raise EngineError("nan", "the logits of its timed calls are not finite")
    return timed, np.concatenate([np.zeros(0, np.int64), *(_places(offset, batch, len(answers)) for offset in header.offsets)])
