"""Engines that took turns: the ratio that survives a noisy machine, and a difference that the rounds do not agree on."""

from __future__ import annotations

import numpy as np
import pytest

from devices.host.rounds import Timing
from harness.measurement.ratios import FEWEST_ROUNDS, ratios

CALLS = 50


def timing(per_round_ns: list[np.ndarray]) -> Timing:
    rounds = np.repeat(np.arange(len(per_round_ns), dtype=np.int16), [len(calls) for calls in per_round_ns])
    return Timing(np.concatenate(per_round_ns).astype(np.int64), rounds, np.array([1], np.int64), True)


def engine(base_ns: float, speed: np.ndarray, seed: int, slow_share: float = 0.0) -> Timing:
    """Calls of an engine on a machine whose speed changes from round to round; some calls are disturbed and take three times as long."""
    rng = np.random.default_rng(seed)
    return timing([base_ns * s * (1 + 0.01 * rng.random(CALLS)) * np.where(rng.random(CALLS) < slow_share, 3, 1) for s in speed])


def test_a_ratio_survives_a_machine_whose_speed_changes_between_rounds() -> None:
    speed = np.array([1.0, 2.5, 1.2, 4.0, 0.9])
    (found,) = ratios({"onnx-fp32": {1: engine(2e6, speed, 0, 0.4)}, "ort-int8": {1: engine(1e6, speed, 1, 0.4)}})
    assert (found.above, found.below, found.batch, found.rounds) == ("onnx-fp32", "ort-int8", 1, 5)
    assert found.low == pytest.approx(2.0, rel=0.02)
    assert found.low_smallest <= found.low <= found.low_largest
    assert found.decided


def test_rounds_that_disagree_decide_nothing() -> None:
    speed = np.array([1.0, 1.1, 0.9, 1.1, 0.9])
    (found,) = ratios({"a": {1: engine(1e6, speed, 0)}, "b": {1: engine(1e6, speed[::-1], 1)}})
    assert not found.decided


def test_every_pair_is_compared_at_the_batch_sizes_that_both_have() -> None:
    one = np.ones(5)
    found = ratios({"a": {1: engine(1e6, one, 0), 8: engine(1e6, one, 1)}, "b": {1: engine(1e6, one, 2)}, "c": {8: engine(1e6, one, 3)}})
    assert [(r.above, r.below, r.batch) for r in found] == [("a", "b", 1), ("a", "c", 8)]


def test_too_few_rounds_and_an_engine_alone_have_no_ratio() -> None:
    few = np.ones(FEWEST_ROUNDS - 1)
    assert ratios({"a": {1: engine(1e6, few, 0)}, "b": {1: engine(1e6, few, 1)}}) == []
    assert ratios({"a": {1: engine(1e6, np.ones(5), 0)}}) == []
