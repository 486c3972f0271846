"""The three claims on made-up networks whose answers are known, and the sample size against a simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from harness.reproduce.claims import Attacked, decide, distillation, images_for, one_bit, printed, pruning
from harness.reproduce.networks import Network, beside, without_width
from harness.reproduce.paper import Ours, paper

N = 400


def network(called: str, tmp_path: Path, /, *, arch: str = "resnet18x16", parent: Network | None = None, **method: object) -> Network:
    file = tmp_path / f"{called}.safetensors"
    file.write_text(called)
    card = {"arch": arch, "parameters": 1, "recipe": {"objective": "n-fgsm"}}
    if method:
        made = {
            "until": None,
            "pattern": None,
            "rate": "",
            **method,
            "parent": {"name": "p", "sha256": parent.sha256 if parent else "none"},
        }
        card = {"arch": arch, "parameters": 1, "method": made}
    return Network(called, file, card)


def attacked(one: Network, right: int, unsound: str | None = None) -> Attacked:
    """Right on the first `right` of N images: any difference is as discordant one way as it can be."""
    return Attacked(one, np.arange(N) < right, unsound)


def rows(known: list[Attacked]) -> dict[str, list[Attacked]]:
    networks = [one.network for one in known]
    return {row.name: [one for one in known if one.network in beside(row.ours, networks)] for row in paper().row}


@pytest.mark.parametrize(
    ("parent", "first", "second", "answer"),
    [(160, 200, 190, "UNDECIDED"), (160, 120, 110, "NOT REPRODUCED HERE"), (160, 161, 159, "UNDECIDED"), (160, 200, 120, "MIXED")],
)
def test_pruning_is_compared_with_what_was_pruned(tmp_path: Path, parent: int, first: int, second: int, answer: str) -> None:
    base = network("base", tmp_path)
    known = [
        attacked(base, parent),
        attacked(network("eight", tmp_path, parent=base, name="radmm", rate="8x"), first),
        attacked(network("twelve", tmp_path, parent=base, name="radmm", rate="0.9167"), second),
        attacked(network("stopped", tmp_path, parent=base, name="radmm", rate="8x", until="admm"), 400),
        attacked(network("orphan", tmp_path, name="hydra", rate="0.9"), 400),
    ]
    found = pruning(paper(), rows(known), known)
    assert found.answer == answer, found.reason
    assert [(one.first, one.second) for one in found.pairs] == [("eight", "base"), ("twelve", "base")]
    assert found.missing == ["RAP fine 16x", "HYDRA 90x", "HYDRA 95x", "HYDRA 99x"], "the orphan's parent is not there: it is not compared"
    assert "One training of each network" in found.reason
    assert "more epochs than its parent" in found.reason and "p = 0.84" in found.paper
    if first == 161:
        assert "images would decide" in found.reason


def test_a_claim_is_confirmed_only_when_no_row_is_missing(tmp_path: Path) -> None:
    pair = attacked(network("a", tmp_path), 200), attacked(network("b", tmp_path), 100)
    assert decide("claim", [pair], "", []).answer == "REPRODUCED HERE"
    partly = decide("claim", [pair], "", ["a row"])
    assert partly.answer == "UNDECIDED" and partly.reason.startswith("every pair gains (1 compared), but in no pair: a row;")
    assert decide("claim", [], "", ["a row"]).reason == "nothing to compare; in no pair: a row."
    assert decide("claim", [pair[::-1]], "", ["a row"]).answer == "NOT REPRODUCED HERE"


def test_holm_counts_the_pairs(tmp_path: Path) -> None:
    """A gain that is significant alone (p = 0.031) is not among five."""
    pairs = [(attacked(network(f"a{i}", tmp_path), 106 if i == 0 else 100), attacked(network(f"b{i}", tmp_path), 100)) for i in range(5)]
    assert decide("claim", pairs[:1], "", []).answer == "REPRODUCED HERE"
    found = decide("claim", pairs, "", [])
    assert found.answer == "UNDECIDED" and found.pairs[0].p == pytest.approx(5 * binomtest(6, 6).pvalue)


@pytest.mark.parametrize(
    ("first", "second", "unsound", "answer"),
    [
        (200, 100, "first", "UNDECIDED"),
        (200, 100, "second", "REPRODUCED HERE"),
        (100, 200, "first", "NOT REPRODUCED HERE"),
        (100, 200, "second", "UNDECIDED"),
    ],
)
def test_a_bound_from_above_counts_only_below(tmp_path: Path, first: int, second: int, unsound: str, answer: str) -> None:
    """What a network that fails a gate has left is at most that: it may lose a pair, and wins none."""
    both = [
        attacked(network(name, tmp_path), right, "a gate" if name == unsound else None)
        for name, right in (("first", first), ("second", second))
    ]
    found = decide("claim", [(both[0], both[1])], "", [])
    assert found.answer == answer and f"{unsound} fails a gate (a gate)" in found.reason


def test_a_reason_names_what_was_tried_and_what_stayed_open(tmp_path: Path) -> None:
    base = network("base", tmp_path)
    base.card["recipe"] = {"objective": "pgd-at", "steps": 2}
    base.card["parameters"] = 701466
    recipe = {"stages": {"a": {"objective": "trades", "steps": 7}, "b": {"objective": "standard", "steps": 9}}}
    small = network("small", tmp_path, parent=base, name="radmm", rate="8x", recipe=recipe)
    known = [attacked(base, 200), attacked(small, 100), attacked(network("even", tmp_path, parent=base, name="radmm", rate="12x"), 200)]
    reason = decide("claim", [(known[1], known[0]), (known[2], known[0])], "", []).reason
    assert "1 of 2 pairs lose and none gain; the most: small less base" in reason and "Neither shown: even less base." in reason
    assert "Tried: networks of 1 to 701,466 parameters, trained against attacks of 2 or 7 steps. One training of each" in reason


def test_the_papers_own_figures_are_tested_both_ways() -> None:
    """Fisher's test takes two rows for independent samples; on the same images the least p of McNemar's is 2 / 2^difference."""
    figures = paper().named
    near = printed(figures("RAP fine 8x"), figures("RAP pre"), paper())
    assert "RAP fine 8x 48 % of 50, RAP pre 44 % of 50: p = 0.84 on different images (Fisher), at least 0.5 on the same" in near
    assert near.endswith("no difference that its own figures can show.")
    far = printed(figures("IAD-I"), figures("RAP prune 12x"), paper())
    assert "at least 0.031 on the same" in far and far.endswith("only its answers per image could show, which are not printed.")
    assert printed(figures("IAD-I"), figures("HYDRA 90x"), paper()).endswith("a difference that its own figures do show.")
    other = printed(figures("w1a1"), figures("IAD-I"), paper())
    assert "w1a1 56 % of 250, IAD-I 52 % of 50: p = " in other and "McNemar" not in other, "another n is another sample"


def test_distillation_compares_like_with_like(tmp_path: Path) -> None:
    teacher, other = network("teacher", tmp_path), network("other", tmp_path)
    known = [
        attacked(network("iad", tmp_path, parent=teacher, name="iad-1"), 100),
        attacked(network("ard", tmp_path, parent=teacher, name="ard"), 200),
        attacked(network("ard-of-another", tmp_path, parent=other, name="ard"), 1),
        attacked(network("ard-mobile", tmp_path, parent=teacher, arch="mobilenetv2-cifar-x0.5", name="ard"), 1),
    ]
    found = distillation(paper(), rows(known))
    assert [(one.first, one.second) for one in found.pairs] == [("iad", "ard")]
    assert (found.answer, found.missing) == ("NOT REPRODUCED HERE", ["IAD-II"])


def test_unlike_recipes_are_told(tmp_path: Path) -> None:
    teacher = network("teacher", tmp_path)
    common = {"name": "distil", "objective": "pgd-at", "epochs": 12}
    stages = {"iad-1": {**common, "lr": 0.15}, "ard": {**common, "lr": 0.1, "nesterov": False}}
    recipes = {name: {"stages": {"distil": stage}} for name, stage in stages.items()}
    known = [attacked(network(name, tmp_path, parent=teacher, name=name, recipe=recipe), 100) for name, recipe in recipes.items()]
    assert distillation(paper(), rows(known)).reason.endswith(
        "Their recipes differ: lr 0.15 for iad-1, 0.1 for ard; nesterov True for iad-1, False for ard."
    )


def test_a_student_of_another_teacher_leaves_the_claim_open(tmp_path: Path) -> None:
    teacher, other = network("teacher", tmp_path), network("other", tmp_path)
    known = [
        attacked(network("ard", tmp_path, parent=teacher, name="ard"), 100),
        attacked(network("one", tmp_path, parent=teacher, name="iad-1"), 200),
        attacked(network("two", tmp_path, parent=other, name="iad-2"), 0),
    ]
    found = distillation(paper(), rows(known))
    assert (found.answer, found.missing) == ("UNDECIDED", ["IAD-II"]) and "but in no pair: IAD-II" in found.reason


@pytest.mark.parametrize(("bits", "rival", "answer"), [(200, 100, "UNDECIDED"), (200, 300, "NOT REPRODUCED HERE"), (200, 201, "MIXED")])
def test_one_rival_refutes_the_most_robust_of_all(tmp_path: Path, bits: int, rival: int, answer: str) -> None:
    one = attacked(network("w1a1", tmp_path, name="lowbit", rate="w1a1"), bits)
    known = [one, attacked(network("weak", tmp_path), 10), attacked(network("rival", tmp_path, name="lowbit", rate="w4a4"), rival)]
    found = one_bit(paper(), rows(known), known)
    assert found.answer == answer and len(found.pairs) == 2
    assert {"HYDRA 90x", "IAD-I", "w8a8"} <= set(found.missing) and not {"w1a1", "w4a4"} & set(found.missing)


def test_the_most_robust_of_all_rows(tmp_path: Path) -> None:
    one = attacked(network("w1a1", tmp_path, name="lowbit", rate="w1a1"), 200)
    others = {row.name: attacked(network(f"n{i}", tmp_path), 100) for i, row in enumerate(paper().row) if row.name != "w1a1"}
    every = {name: [other] for name, other in others.items()} | {"w1a1": [one]}
    assert one_bit(paper(), every, [one, *others.values()]).answer == "REPRODUCED HERE"


def test_missing_rows_leave_a_claim_undecided() -> None:
    empty: dict[str, list[Attacked]] = {row.name: [] for row in paper().row}
    for found in (pruning(paper(), empty, []), distillation(paper(), empty), one_bit(paper(), empty, [])):
        assert found.answer == "UNDECIDED" and found.reason.startswith("nothing to compare; in no pair: ") and not found.pairs


def test_rows_are_found_by_method_rate_stage_and_family(tmp_path: Path) -> None:
    base = network("base", tmp_path)
    cases = {
        "RAP pre": base,
        "RAP prune 12x": network("a", tmp_path, parent=base, name="radmm", rate="12x", until="admm", pattern="irregular"),
        "RAP fine 12x": network("b", tmp_path, parent=base, name="radmm", rate="91.67%", pattern="irregular"),
        "HYDRA 99x": network("c", tmp_path, parent=base, name="hydra", rate="100x"),
        "RSLAD → MobileNetV2": network("d", tmp_path, parent=base, arch="mobilenetv2-cifar-x0.25", name="rslad"),
        "RSLAD → ResNet": network("e", tmp_path, parent=base, arch="resnet18x32", name="rslad"),
        "w2a2": network("f", tmp_path, parent=base, arch="resnet18x16:a2", name="lowbit", rate="w2a2"),
    }
    nowhere = [
        network("filter", tmp_path, parent=base, name="radmm", rate="12x", pattern="filter"),
        network("standard", tmp_path),
        network("w4a8", tmp_path, parent=base, name="lowbit", rate="w4a8"),
    ]
    nowhere[1].card["recipe"]["objective"] = "standard"
    every = [*cases.values(), *nowhere]
    found = {row.name: beside(row.ours, every) for row in paper().row}
    assert {name: own for name, own in found.items() if own} == {name: [one] for name, one in cases.items()}
    assert beside(Ours(), nowhere) == [], "a network trained without an adversary is nobody's robust parent"
    assert without_width("resnet18x64:a4") == without_width("resnet18x16") != without_width("resnet8")


def test_the_images_for_a_gain_decide_four_times_in_five() -> None:
    gain, discordant = 0.04, 0.2
    n = images_for(gain, discordant)
    assert n is not None and images_for(0.0, 0.2) is None
    assert (images_for(gain, discordant, 0.05 / 20) or 0) > 1.5 * n, "Holm asks for more where there are more pairs"
    rng = np.random.default_rng(0)
    table = rng.multinomial(n, [(discordant + gain) / 2, (discordant - gain) / 2, 1 - discordant], size=600)
    found = np.mean([binomtest(int(a), int(a + b)).pvalue < 0.05 for a, b, _ in table])
    assert 0.74 < found < 0.84
