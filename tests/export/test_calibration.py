"""Activation ranges against independent oracles: PyTorch hooks, known distributions, and memory that does not grow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from torch import nn

from export import calibration
from export.calibration import BINS, METHODS, PERCENTILE, Calibration, activation_ranges, entropy_bin, percentile_bin
from export.errors import ExportError
from export.session import to_input


def test_minmax_is_what_pytorch_sees(network: nn.Module, graph: ModelProto, images: NDArray[np.uint8]) -> None:
    x = torch.from_numpy(to_input(images))
    with torch.no_grad():
        logits, hidden = network(x), network[:6](x)
    ranges = activation_ranges(graph, Calibration(images, "minmax"))
    conv = [node.output[0] for node in graph.graph.node if node.op_type == "Conv"][-1]
    assert ranges["images"] == (0, x.max())
    for name, values in (("logits", logits), (conv, hidden)):
        np.testing.assert_allclose(ranges[name], (min(values.min(), 0), max(values.max(), 0)), rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_one_image_at_a_time_gives_the_same(
    method: str, graph: ModelProto, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory budget decides the batch; the answer does not depend on it."""
    whole = activation_ranges(graph, Calibration(images, method))
    monkeypatch.setattr(calibration, "BUDGET_BYTES", 1)
    single = activation_ranges(graph, Calibration(images, method))
    assert whole.keys() == single.keys()
    for name, bounds in whole.items():
        np.testing.assert_allclose(bounds, single[name], rtol=2e-3, atol=1e-6)  # a value on the border of two bins may move


@pytest.mark.parametrize("method", METHODS)
def test_ranges_hold_zero_and_lie_within_the_data(method: str, graph: ModelProto, images: NDArray[np.uint8]) -> None:
    full = activation_ranges(graph, Calibration(images, "minmax"))
    for name, (low, high) in activation_ranges(graph, Calibration(images, method)).items():
        assert full[name][0] <= low <= 0 <= high <= full[name][1]


@pytest.mark.parametrize("method", METHODS)
def test_few_values_are_not_clipped(method: str, graph: ModelProto, images: NDArray[np.uint8]) -> None:
    """240 logits in 2048 bins: their histogram is mostly gaps."""
    full = activation_ranges(graph, Calibration(images, "minmax"))
    assert activation_ranges(graph, Calibration(images, method))["logits"] == full["logits"]


counts = hnp.arrays(np.int64, BINS, elements=st.integers(0, 10**6)).filter(lambda histogram: histogram.sum() > 0)


@given(histogram=counts, signed=st.booleans())
@settings(max_examples=25, deadline=None)
def test_thresholds_are_bins(histogram: NDArray[np.int64], signed: bool) -> None:
    kept = percentile_bin(histogram, signed)
    assert histogram[:kept].sum() >= PERCENTILE / 100 * histogram.sum() - 1
    assert histogram[: kept - 1].sum() < PERCENTILE / 100 * histogram.sum() + 1
    assert (128 if signed else 256) <= entropy_bin(histogram, signed) <= BINS


def histogram_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.histogram(np.abs(values), BINS, (0, np.abs(values).max()))[0]


def test_entropy_cuts_an_outlier_and_keeps_a_uniform_distribution() -> None:
    """A normal distribution with one value at 100 sigma is cut to a few sigma; of a uniform one nothing may be cut."""
    rng = np.random.default_rng(0)
    outlier = entropy_bin(histogram_of(np.append(rng.normal(size=200_000), 100.0)), signed=True)
    assert 2 <= outlier / BINS * 100 <= 12
    assert entropy_bin(histogram_of(rng.uniform(-1, 1, 2_000_000)), signed=True) >= 0.95 * BINS


def test_an_activation_that_is_not_finite(graph: ModelProto, images: NDArray[np.uint8]) -> None:
    damaged = ModelProto()
    damaged.CopyFrom(graph)
    for tensor in damaged.graph.initializer:
        if tensor.dims[:1] == [24]:
            tensor.CopyFrom(numpy_helper.from_array(np.full(list(tensor.dims), np.nan, np.float32), tensor.name))
    with pytest.raises(ExportError, match="not finite"):
        activation_ranges(damaged, Calibration(images, "minmax"))


def test_unknown_method_and_unfit_images(images: NDArray[np.uint8]) -> None:
    with pytest.raises(ExportError, match=r"'median'.*minmax, entropy, percentile"):
        Calibration(images, "median")
    for unfit in (images.astype(np.float32), images[0], images[:0]):
        with pytest.raises(ExportError, match=r"expected uint8 \(n, height, width, channels\)"):
            Calibration(unfit, "minmax")


def test_manifest_names_the_images(images: NDArray[np.uint8]) -> None:
    first, other = Calibration(images, "entropy").manifest(), Calibration(255 - images, "entropy").manifest()
    assert (first["method"], first["n"]) == ("entropy", 48)
    assert first["sha256"] != other["sha256"]
