"""The Pareto front and the rule, against a hand-made case, brute force, and the paired test of the audit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.audit.statistics import tango
from harness.records import Verdict
from harness.sweep import run
from harness.sweep.figures import Survivors
from harness.sweep.recommend import Candidate, recommend
from harness.sweep.record import CellRow, EngineRow, Front


def nested(name: str, cost: float, right: int, n: int = 200) -> Candidate:
    """Right on the first `right` of n images: every less robust candidate is right on a part of the same ones."""
    return Candidate(name, cost, np.arange(n) < right)


def front(*candidates: Candidate, delta: float = 0.05) -> Front:
    found = recommend(candidates, "size", "artefact size", "KiB", delta, "8/255")
    assert found is not None
    return found


def test_the_cheapest_that_gives_up_too_little_to_matter_is_recommended() -> None:
    candidates = nested("large", 100, 100), nested("middle", 50, 97), nested("small", 10, 60), nested("worse", 60, 90)
    found = front(*candidates)
    assert {point.name: point.on_front for point in found.points} == {"small": True, "middle": True, "worse": False, "large": True}
    assert found.recommended == "middle" and "2 times less than large" in found.reason and "1.5 points" in found.reason
    middle = next(point for point in found.points if point.name == "middle")
    assert middle.given_up == pytest.approx(3 / 200) and middle.given_up_at_most == pytest.approx(tango(3, 0, 200)[1])
    assert front(*candidates, delta=0.01).recommended == "large", "3 of 200 lost may be more than 1 point"
    assert front(*candidates, delta=0.5).recommended == "small"


def test_few_images_recommend_the_most_robust() -> None:
    few = front(nested("large", 100, 10, n=20), nested("small", 1, 10, n=20))
    assert few.recommended == "small", "equally robust: the cheaper one is the best itself"
    few = front(nested("large", 100, 11, n=20), nested("small", 1, 10, n=20))
    assert few.recommended == "large" and "no cheaper one is shown" in few.reason


def test_one_candidate_makes_no_front() -> None:
    assert recommend([nested("one", 1, 1)], "size", "size", "KiB", 0.05, "8/255") is None


def test_two_candidates_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="the same name"):
        front(nested("net", 1, 60), nested("net", 2, 99))


def test_the_most_robust_may_be_the_cheapest() -> None:
    assert front(nested("small", 1, 100), nested("large", 2, 99)).reason.endswith("2 candidates, and none is cheaper.")


CANDIDATES = st.lists(st.tuples(st.integers(1, 5), st.lists(st.booleans(), min_size=12, max_size=12)), min_size=2, max_size=7)


@settings(max_examples=150, deadline=None)
@given(CANDIDATES, st.sampled_from([0.05, 0.3, 0.6]), st.randoms(use_true_random=False))
def test_front_and_rule_by_brute_force_in_any_order(drawn: list[tuple[int, list[bool]]], delta: float, random: object) -> None:
    candidates = [Candidate(f"c{i}", float(cost), np.array(right)) for i, (cost, right) in enumerate(drawn)]
    found = front(*candidates, delta=delta)
    value = {c.name: (int(c.right.sum()), -c.cost) for c in candidates}
    for point in found.points:
        mine = value[point.name]
        beaten = any(other[0] >= mine[0] and other[1] >= mine[1] and other != mine for other in value.values())
        assert point.on_front is not beaten
    most = max(robust for robust, _ in value.values())
    chosen = next(point for point in found.points if point.name == found.recommended)
    assert chosen.given_up_at_most < delta
    assert chosen.given_up == pytest.approx((most - value[chosen.name][0]) / 12)
    cheaper = [point for point in found.points if point.cost < chosen.cost]
    assert all(point.given_up_at_most >= delta for point in cheaper)
    random.shuffle(candidates)  # type: ignore[attr-defined]
    assert front(*candidates, delta=delta) == found


@pytest.mark.parametrize("verdict", [Verdict.UNTRUSTED, Verdict.ENGINE_FAILED, None])
def test_figures_that_are_not_to_be_relied_on_are_no_candidates(verdict: Verdict | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The most robust and the cheapest of all, by a run whose gates failed: it is in no front."""
    kept = {"a": 0.4, "b": 0.5, "masked": 1.0}
    verdicts = {"a": Verdict.NOT_REFUTED, "b": Verdict.FAILS, "masked": verdict}
    answers = {name: Survivors(np.arange(100) < 100 * kept[name], {"ort-int8": np.arange(100) < 100 * kept[name]}) for name in kept}
    monkeypatch.setattr(run.Run, "open", lambda folder: folder.name)
    monkeypatch.setattr(run, "survivors", answers.__getitem__)
    rows = [
        CellRow(label=name, parent="p", status="finished", eps="8/255", run=f"/runs/{name}", engines=[engine(verdicts[name], size)])
        for size, name in enumerate(("masked", "a", "b"), start=1)
    ]
    found = run.fronts(rows, 0.05, "1")
    assert [front.axis for front in found] == ["size", "latency", "memory"]
    for one in found:
        assert {point.name for point in one.points} == {"a, ort-int8", "b, ort-int8"}
        assert "masked" not in one.recommended


def test_an_engine_of_which_no_file_is_known_is_not_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Survivors(np.ones(100, np.bool_), {"ort-int8": np.ones(100, np.bool_)})
    monkeypatch.setattr(run.Run, "open", lambda folder: folder.name)
    monkeypatch.setattr(run, "survivors", lambda name: answers)
    rows = [
        CellRow(label=name, parent="p", status="finished", eps="8/255", run=f"/runs/{name}", engines=[engine(Verdict.HOLDS, 2, size)])
        for name, size in (("unknown", None), ("small", 2), ("large", 3))
    ]
    by_axis = {front.axis: front for front in run.fronts(rows, 0.05, "1")}
    assert {point.name for point in by_axis["size"].points} == {"small, ort-int8", "large, ort-int8"}
    assert len(by_axis["latency"].points) == 3


def engine(verdict: Verdict | None, size: int, file: int | None = 1) -> EngineRow:
    return EngineRow(
        flavour="ort-int8", status="ok", error=None, precision="int8", clean=None, robust=None, verdict=verdict,
        latency_ms={"1": float(size)}, memory_bytes=size, artefact_bytes=file, simulated=False,
    )  # fmt: skip
