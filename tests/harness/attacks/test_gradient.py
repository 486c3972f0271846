"""The fast form that makes gradients, and what a search keeps."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from linear import linear_data, linear_model
from torch import Tensor, nn

from harness.attacks.gradient import FastForm, fast, frozen_eval
from harness.attacks.search import Search, margins
from harness.compute.placement import CPU, device
from harness.compute.precision import native_bf16
from harness.data.dataset import Dataset, to_tensor
from harness.errors import UsageError
from harness.models.predictions import margins as stored_margins


def test_the_fast_form_answers_like_the_module(trained: tuple[nn.Module, Dataset]) -> None:
    model, data = trained
    images = to_tensor(data.images)
    state = copy.deepcopy(model.state_dict())
    form = fast(model, images, bf16=False)
    assert isinstance(form, FastForm)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in form.modules()), "batch norms were not folded"
    assert not any(parameter.requires_grad for parameter in form.parameters())
    torch.testing.assert_close(form(images).cpu(), model(images), rtol=1e-4, atol=1e-4)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert any(isinstance(part, nn.BatchNorm2d) for part in model.modules()), "the module itself was folded"


@pytest.mark.skipif(device() != CPU or not native_bf16(), reason="gradients are not made on a CPU with bfloat16 arithmetic")
def test_bfloat16_is_used_where_the_cpu_has_it(trained: tuple[nn.Module, Dataset]) -> None:
    model, data = trained
    images = to_tensor(data.images)
    form = fast(model, images)
    assert isinstance(form, FastForm) and form.bf16
    assert form(images).dtype == torch.float32
    assert not torch.equal(form(images), model(images))
    assert (form(images).argmax(1) == model(images).argmax(1)).float().mean() > 0.95


def test_small_gradients_have_a_direction_too(trained: tuple[nn.Module, Dataset]) -> None:
    """Logits near zero, as an untrained network's: gradients of 1e-13 are no reason to go slowly. Zero gradients are."""
    model, data = trained
    small, saturated = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        for parameter in small[-1].parameters():
            parameter *= 1e-10
        for parameter in saturated[-1].parameters():
            parameter *= 1e6
    images = to_tensor(data.images)
    assert isinstance(fast(small, images), FastForm)
    assert fast(saturated, images) is saturated


class Branching(nn.Module):
    """Cannot be traced: the path depends on the data."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images) if images.mean() > 0 else self.inner(-images)


def test_a_module_that_cannot_be_traced_is_used_unfolded(trained: tuple[nn.Module, Dataset]) -> None:
    model, data = trained
    form = fast(Branching(model).eval(), to_tensor(data.images))
    assert isinstance(form, FastForm)
    assert any(isinstance(part, nn.BatchNorm2d) for part in form.modules())


class Picky(nn.Module):
    """Refuses to be copied, and answers otherwise in channels-last: no fast form is like it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __deepcopy__(self, memo: dict[int, object]) -> Picky:
        raise RuntimeError("not copyable")

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images) * (1 if images.is_contiguous() else -1)


def test_the_module_itself_is_the_way_out(trained: tuple[nn.Module, Dataset]) -> None:
    model, data = trained
    picky = Picky(model).eval()
    assert fast(picky, to_tensor(data.images)) is picky


class InPlace(nn.Module):
    """Overwrites what the gradient needs."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x.flatten(1)).mul_(2)


def test_a_network_without_a_gradient_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match=r"PyTorch cannot take its gradient.*inplace operation.*run_decompositions\(\)"):
        fast(InPlace(), torch.rand(2, 1, 1, 3))


def test_held_puts_everything_back_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    model[1].eval()
    model[0].bias.requires_grad_(False)
    with pytest.raises(ZeroDivisionError), frozen_eval(model):
        assert not any(part.training for part in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        raise ZeroDivisionError
    assert [part.training for part in model.modules()] == [True, True, False, True]
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, False, True, True]


@given(st.lists(st.lists(st.floats(-5, 5, width=16), min_size=3, max_size=3), min_size=1, max_size=5), st.integers(0, 2))
def test_the_margin(rows: list[list[float]], label: int) -> None:
    found = margins(torch.tensor(rows), torch.full((len(rows),), label))
    assert found.tolist() == [float(np.float32(row[label]) - np.float32(max(row[:label] + row[label + 1 :]))) for row in rows]


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_the_margin_of_finite_logits_is_finite(kind: torch.dtype) -> None:
    end = torch.finfo(kind).max
    found = margins(torch.tensor([[end, -end, -end], [-end, end, 0.0]], dtype=kind), torch.tensor([0, 0]))
    assert found.tolist() == [end, -end]
    if kind is torch.float32:
        assert stored_margins(np.array([[end, -end, -end], [-end, end, 0.0]], np.float32), np.array([0, 0])).tolist() == [end, -end]


def test_a_search_keeps_the_iterate_with_the_smallest_margin() -> None:
    model = linear_model(3)
    data = linear_data(model, n=12)
    images, labels = to_tensor(data.images), torch.from_numpy(data.labels)
    search = Search(model, images, labels, 8 / 255, range(12))
    assert torch.equal(search.best, images)
    torch.manual_seed(0)
    seen = [torch.rand_like(images) for _ in range(7)]
    with torch.no_grad():
        for candidate in seen:
            assert torch.equal(search.ask(candidate), model(candidate))
        all_margins = torch.stack([margins(model(candidate), labels) for candidate in seen])
    assert torch.equal(search.margin, all_margins.amin(0))
    for row, best in enumerate(all_margins.argmin(0).tolist()):
        assert torch.equal(search.best[row], seen[best][row])


def test_rows_that_leave_take_no_further_part() -> None:
    model = linear_model(3)
    data = linear_data(model, n=6)
    images, labels = to_tensor(data.images), torch.from_numpy(data.labels)
    search = Search(model, images, labels, 8 / 255, range(6), look=lambda s: s.rows % 2 == 0)
    assert search.checkpoint() is not None
    assert search.rows.tolist() == [0, 2, 4]
    with torch.no_grad():
        search.ask(torch.zeros_like(search.images))
    assert torch.isfinite(search.margin).tolist() == [True, False, True, False, True, False]
    assert torch.equal(search.best[1], images[1])


def test_a_random_start_is_the_images_own() -> None:
    """The same for an image alone and among others, inside the ball, and another one for the next run."""
    model = linear_model(3)
    data = linear_data(model, n=8)
    images, labels = to_tensor(data.images), torch.from_numpy(data.labels)
    whole, some = (Search(model, images[rows], labels[rows], 8 / 255, list(range(8))[rows]) for rows in (slice(None), slice(3, 6)))
    first = whole.start()
    assert torch.equal(first[3:6], some.start())
    assert ((first - images).abs() <= 8 / 255 + 1e-6).all() and not torch.equal(first, images)
    assert not torch.equal(whole.start(), first)
    touching = Search(model, images, labels, 8 / 255, range(8)).start(touching=True)
    assert torch.allclose((touching - images).abs().flatten(1).amax(1), torch.tensor(8 / 255), atol=1e-6)
