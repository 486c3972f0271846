"""Projections keep exactly as many entries as they say, ties included, and the largest ones; masks hold while the weights move."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from harness.compression.masks import PATTERNS, bake, dense, hold, kept, patterns, prunable
from harness.compression.rate import bits, half, sparsity
from harness.errors import UsageError
from harness.models.architectures import build

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 3).map(lambda n: 4 * n), st.integers(1, 3), st.integers(1, 3))
# Few values: many ties, zeros among them.
WEIGHTS = SHAPES.flatmap(lambda shape: arrays("float32", shape, elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])))
RATES = st.one_of(st.just(0.0), st.floats(0, 0.999))


def scores(pattern: str, weight: Tensor) -> Tensor:
    """One score for everything that the pattern keeps or drops together, (groups, members); members compete within their group."""
    matrix = weight.flatten(1)
    return {
        "irregular": lambda: weight.abs().flatten()[None],
        "filter": lambda: matrix.norm(dim=1)[None],
        "column": lambda: matrix.norm(dim=0)[None],
        "2:4": lambda: weight.abs().movedim(1, -1).reshape(-1, 4),
    }[pattern]()


def choices(pattern: str, mask: Tensor) -> Tensor:
    """Which of them a mask keeps, in the same order; fails where entries of one choice differ."""
    matrix = mask.flatten(1)
    if pattern == "filter":
        assert (matrix == matrix[:, :1]).all()
        return matrix[:, 0][None]
    if pattern == "column":
        assert (matrix == matrix[:1]).all()
        return matrix[0][None]
    return mask.flatten()[None] if pattern == "irregular" else mask.movedim(1, -1).reshape(-1, 4)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(weight=WEIGHTS, rate=RATES)
@settings(max_examples=50, deadline=None)
def test_a_projection_keeps_exactly_the_largest(pattern: str, weight: np.ndarray, rate: float) -> None:
    tensor = torch.from_numpy(weight)
    mask = PATTERNS[pattern](tensor, rate)
    assert mask.shape == tensor.shape and mask.is_contiguous() and set(mask.unique().tolist()) <= {0.0, 1.0}
    score, chosen = scores(pattern, tensor), choices(pattern, mask)
    count = 2 if pattern == "2:4" else max(1, round((1 - rate) * score.shape[1]))
    assert (chosen.sum(1) == count).all()
    worst_kept = torch.where(chosen == 1, score, torch.inf).amin(1)
    best_dropped = torch.where(chosen == 0, score, -torch.inf).amax(1)
    assert (worst_kept >= best_dropped).all()


@pytest.mark.parametrize(("entries", "rate", "count"), [(144, 0.875, 18), (144, 11 / 12, 12), (144, 0.9375, 9), (8, 0.9, 1), (4, 0.999, 1)])
def test_counts_of_the_papers_rates(entries: int, rate: float, count: int) -> None:
    assert kept(entries, rate) == count


@given(weight=WEIGHTS, rate=RATES)
@settings(max_examples=50, deadline=None)
def test_a_projection_is_the_nearest_point_of_its_pattern(weight: np.ndarray, rate: float) -> None:
    """Irregular: no other mask of as many entries loses less; checked against sorting."""
    tensor = torch.from_numpy(weight)
    lost = (tensor * (1 - PATTERNS["irregular"](tensor, rate))).square().sum()
    smallest = tensor.flatten().square().sort().values[: tensor.numel() - kept(tensor.numel(), rate)].sum()
    torch.testing.assert_close(lost, smallest)


@given(weight=WEIGHTS, rate=st.floats(0.1, 0.9))
@settings(max_examples=50, deadline=None)
def test_projecting_twice_changes_nothing(weight: np.ndarray, rate: float) -> None:
    tensor = torch.from_numpy(weight)
    assume(bool((tensor != 0).all()))
    for project in PATTERNS.values():
        once = tensor * project(tensor, rate)
        assert torch.equal(once * project(once, rate), once)


def test_all_ties() -> None:
    equal = torch.ones(8, 8, 3, 3)
    assert {name: int(project(equal, 0.75).sum()) for name, project in PATTERNS.items()} == {
        "irregular": 144, "filter": 2 * 72, "column": 18 * 8, "2:4": 288,
    }  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_may_be_pruned(pattern: str) -> None:
    network = build("mobilenetv2-cifar-x0.25", 10)
    layers = prunable(network, pattern)
    assert layers and "conv1" not in layers
    assert all(layer.groups == 1 for layer in layers.values())
    assert {*dense(network, layers), *layers} == {n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    odd = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Conv2d(8, 8, 3))
    assert list(prunable(odd, pattern)) == (["2"] if pattern == "2:4" else ["1", "2"])


def test_a_held_mask_outlives_training_and_baking() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8 * 4, 2))
    layers = prunable(network, "irregular")
    masks = patterns(layers, "irregular", 0.75)
    hold(network, masks)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
    before = layers["1"].weight.detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        network(torch.rand(6, 3, 6, 6)).square().mean().backward()
        optimizer.step()
    bake(network)
    assert not hasattr(network[1], "parametrizations") and all(p.requires_grad for p in network.parameters())
    assert (network[1].weight[masks["1"] == 0] == 0).all()
    assert (network[1].weight[masks["1"] == 1] != before[masks["1"] == 1]).all()


@pytest.mark.parametrize(
    ("pattern", "rate", "words"),
    [
        ("2:4", 0.9, r"--rate 0\.9: .* pattern 2:4; the nearest here is 0\.5000"),
        ("filter", 0.999, r"the nearest here is 0\.9[67]\d\d"),
        ("irregular", 0.999999, "the nearest here is 0.9"),
    ],
)
def test_a_rate_out_of_reach_says_the_nearest(pattern: str, rate: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        patterns(prunable(build("resnet8", 10), pattern), pattern, rate)


def test_a_network_without_convolutions_is_refused() -> None:
    for network in (nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Conv2d(3, 4, 1))):
        assert prunable(network, "irregular") == {}
        with pytest.raises(UsageError, match="no convolution that may be pruned"):
            patterns({}, "irregular", 0.5)


@pytest.mark.parametrize(
    ("text", "value"), [("8x", 0.875), ("12x", 11 / 12), ("1x", 0.0), ("0.9", 0.9), ("90%", 0.9), ("0", 0.0), ("1.5x", 1 / 3)]
)
def test_rates(text: str, value: float) -> None:
    assert sparsity(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["", "x", "%", "0x", "0.5x", "-2x", "1", "1.0", "100%", "-0.1", "150%", "nan", "nanx", "infx", "8y", "w4a4"]
)
def test_what_is_no_rate_is_one_clear_line(text: str) -> None:
    with pytest.raises(UsageError, match="--rate") as caught:
        sparsity(text)
    assert "\n" not in str(caught.value)


def test_two_of_four_has_one_rate() -> None:
    assert half("2x") == half("50%") == half("0.5") == 0.5
    with pytest.raises(UsageError, match=r"the nearest is 0\.5"):
        half("4x")


@pytest.mark.parametrize("text", [f"w{w}a{a}" for w in (1, 4, 8, 32) for a in (1, 2, 32)])
def test_bits(text: str) -> None:
    assert "w{}a{}".format(*bits(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [("w0a4", "nearest is 1"), ("w9a4", "nearest is 8"), ("w4a16", "nearest is 8"), ("w4a31", "nearest is 32"), ("w64a4", "nearest is 32"),
     ("4", "such as w4a4"), ("w4", "such as"), ("W4A4", "such as"), ("w-1a2", "such as"), ("8x", "such as")],
)  # fmt: skip
def test_bits_out_of_range_say_the_nearest(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        bits(text)
