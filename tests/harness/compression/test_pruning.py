"""RAP-ADMM, HYDRA, magnitude and filter pruning: the penalty and the updates by hand, and what each leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from harness.compression.job import Job
from harness.compression.masks import prunable, pruned_before
from harness.compression.methods.filters import filters, smaller, without_channels
from harness.compression.methods.hydra import hydra
from harness.compression.methods.lowbit import lowbit, qat_int8
from harness.compression.methods.magnitude import magnitude
from harness.compression.methods.radmm import ADMM, radmm
from harness.errors import UsageError
from harness.models.architectures import build
from harness.models.load import load_twin
from harness.models.packed import pack, round_trip
from harness.models.probe import parameters

pytestmark = pytest.mark.slow(25)


def layer(*values: float) -> nn.Conv2d:
    found = nn.Conv2d(2, 2, 1, bias=False)
    found.weight.data = torch.tensor(values).view(2, 2, 1, 1)
    return found


def admm(subject: nn.Conv2d, rate: float = 0.5, rho: float = 0.1, growth: float = 2.0, every: int = 1) -> ADMM:
    return ADMM({"a": subject}, "irregular", rate, rho, growth, every)


def test_the_penalty_by_hand() -> None:
    """W = (3, -1, 2, 0.5), half kept: Z = (3, 0, 2, 0), U = 0. rho/2 ||W - Z + U||^2 = 0.05 (1 + 0.25)."""
    subject = layer(3.0, -1.0, 2.0, 0.5)
    regime = admm(subject)
    assert regime.penalty().item() == pytest.approx(0.05 * 1.25)
    regime.dual["a"] = torch.tensor([0.5, 1.0, 0.0, -1.0]).view(2, 2, 1, 1)
    assert regime.penalty().item() == pytest.approx(0.05 * (0.25 + 0 + 0 + 0.25))
    (gradient,) = torch.autograd.grad(regime.penalty(), subject.weight)
    torch.testing.assert_close(gradient.flatten(), 0.1 * torch.tensor([0.5, 0.0, 0.0, -0.5]))
    assert not regime.dual["a"].requires_grad and not regime.target["a"].requires_grad


def test_the_updates_by_hand() -> None:
    """After W moved to (1, -2, 1.5, 0): Z keeps the largest of W + U, U takes the rest and is halved as rho doubles."""
    subject = layer(3.0, -1.0, 2.0, 0.5)
    regime = admm(subject, every=2)
    subject.weight.data = torch.tensor([1.0, -2.0, 1.5, 0.0]).view(2, 2, 1, 1)
    regime.after_epoch(subject, 1)
    assert regime.rho == 0.1 and regime.target["a"].flatten().tolist() == [3, 0, 2, 0]
    assert regime.residuals == pytest.approx([((4 + 4 + 0.25) / 7.25) ** 0.5])
    regime.after_epoch(subject, 2)
    assert regime.target["a"].flatten().tolist() == [0, -2, 1.5, 0]
    assert regime.dual["a"].flatten().tolist() == [0.5, 0, 0, 0]
    assert regime.rho == 0.2
    before = regime.rho * regime.dual["a"]  # the dual itself, which a larger rho must not change
    torch.testing.assert_close(before.flatten(), 0.1 * torch.tensor([1.0, 0, 0, 0]))


def test_admm_converges_on_a_quadratic() -> None:
    """min ||W - A||^2 with half of W zero: ADMM ends at the two largest of A."""
    wanted = torch.tensor([3.0, -1.0, 2.0, 0.5]).view(2, 2, 1, 1)
    subject = layer(0.1, 0.2, 0.3, 0.4)
    regime = admm(subject, rho=0.5, growth=1.1)
    optimizer = torch.optim.SGD(subject.parameters(), lr=0.1)
    for number in range(1, 41):
        for _ in range(30):
            optimizer.zero_grad()
            ((subject.weight - wanted).square().sum() + regime.penalty()).backward()
            optimizer.step()
        regime.after_epoch(subject, number)
    torch.testing.assert_close(subject.weight.flatten().detach(), torch.tensor([3.0, 0, 2.0, 0]), atol=0.02, rtol=0)
    assert regime.residuals[-1] < 0.01 < regime.residuals[0]


def test_the_residual_falls_in_a_training(make_job: Callable[..., Job]) -> None:
    def residuals(out: str, rho: float) -> list[float]:
        options = {"rho": rho, "growth": 1.2, "every": 1}
        job = make_job("radmm", "4x", out=out, epochs=8, until="admm", options=options, average=0.0, schedule="steps", lr=0.1, batch=8)
        radmm(job)
        found: list[float] = job.notes["admm_residual"]
        return found

    pulled, free = residuals("pulled", 0.1), residuals("free", 1e-9)
    assert len(pulled) == 8
    # Not at every step: ADMM promises a limit, no monotone course, and rounding decides how single steps go.
    assert max(pulled[4:]) < min(pulled[:4]) and pulled[-1] < 0.6 * pulled[0], pulled
    assert pulled[-1] < 0.5 * free[-1], "it falls as much without the penalty"


def share_of_zeros(network: nn.Module, pattern: str = "irregular") -> list[float]:
    return [1 - int(x.weight.count_nonzero()) / x.weight.numel() for x in prunable(network, pattern).values()]


@pytest.mark.parametrize("pattern", ["irregular", "filter", "column"])
@pytest.mark.parametrize(("method", "run"), [("radmm", radmm), ("hydra", hydra), ("magnitude", magnitude)])
def test_every_layer_has_its_zeros(method: str, run: Callable[[Job], nn.Module], pattern: str, make_job: Callable[..., Job]) -> None:
    job = make_job(method, "4x", pattern=pattern, epochs=1)
    network = run(job)
    assert share_of_zeros(network) == pytest.approx([0.75] * 8, abs=0.02)
    assert not any(parametrize.is_parametrized(module) for module in network.modules())
    assert job.notes["dense_layers"] == ["conv1", "linear"]
    for found in prunable(network, pattern).values():
        rows = found.weight.flatten(1) != 0
        if pattern == "filter":
            assert (rows.any(1) == rows.all(1)).all()
        if pattern == "column":
            assert (rows.any(0) == rows.all(0)).all()


@pytest.mark.parametrize(("method", "run"), [("hydra", hydra), ("nm24", magnitude)])
def test_two_of_every_four_input_channels(method: str, run: Callable[[Job], nn.Module], make_job: Callable[..., Job]) -> None:
    network = run(make_job(method, "0.5", pattern="2:4", epochs=1))
    for found in prunable(network, "2:4").values():
        groups = (found.weight != 0).movedim(1, -1).reshape(-1, 4).sum(1)
        assert (groups == 2).all()


def test_hydra_with_scores_that_do_not_move_is_masked_fine_tuning(make_job: Callable[..., Job]) -> None:
    """The scores start in the order of the weights, so frozen ones choose magnitude's mask; what follows is the same training."""
    still = make_job("hydra", "0.8", epochs=1)
    still.recipe.stages["prune"] = still.recipe.stages["prune"].model_copy(update={"lr": 1e-30, "weight_decay": 0.0})
    plain = make_job("magnitude", "0.8", out="plain", epochs=1)
    one, other = dict(hydra(still).named_parameters()), dict(magnitude(plain).named_parameters())
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_hydra_learns_another_mask_and_leaves_the_weights(make_job: Callable[..., Job]) -> None:
    before = {name: tensor.clone() for name, tensor in make_job("hydra").network.named_parameters()}
    job = make_job("hydra", "0.5", until="prune", epochs=2, lr=20.0, average=0.0)
    network = hydra(job)
    assert "finetune" not in job.fitted
    moved = norms = 0
    for name, weight in network.named_parameters():
        kept = weight != 0
        if isinstance(network.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d):
            norms += not torch.equal(weight, before[name])
            continue
        assert torch.equal(weight[kept], before[name][kept]), f"{name}: frozen weights moved"
        if name in {f"{n}.weight" for n in prunable(network, "irregular")}:
            smallest_kept, largest_dropped = before[name][kept].abs().min(), before[name][~kept].abs().max()
            moved += bool(smallest_kept < largest_dropped)
    assert moved, "every mask is still magnitude's"
    assert norms, "batch norms' scale and shift learn with the scores, as in the published code"


@pytest.mark.parametrize("rate", [0.3, 0.9])
@pytest.mark.parametrize("arch", ["resnet8", "mobilenetv2-cifar-x0.25", "wrn-28-1"])
def test_channels_are_really_removed(arch: str, rate: float) -> None:
    torch.manual_seed(0)
    network = build(arch, 10)
    count = parameters(network)[0]
    found = smaller(network, rate, (3, 32, 32)).eval()
    assert parameters(found)[0] == pytest.approx((1 - rate) * count, rel=0.1)
    assert parameters(network)[0] == count, "the network given was changed"
    with torch.no_grad():
        assert found(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_forms_follow_one_another(make_job: Callable[..., Job], tmp_path: Path) -> None:
    """Channels removed, then four bits: the file loads under both forms with the same logits."""
    first = make_job("filters", "2x", epochs=1)
    second = make_job("lowbit", "w4a4", out="second", epochs=1, network=filters(first))
    second.arch = first.arch
    network = lowbit(second).eval().cpu()
    assert second.arch == "resnet8:filters:a4"
    pack(network.state_dict(), tmp_path / "n.safetensors")
    network.load_state_dict(round_trip(network.state_dict()))
    x = torch.rand(3, 3, 32, 32)
    twin = load_twin(str(tmp_path / "n.safetensors"), arch=second.arch)
    with torch.no_grad():
        assert torch.equal(twin.module(x), network.to(memory_format=torch.contiguous_format)(x))


def test_channels_that_cannot_be_followed_are_refused_with_a_remedy() -> None:
    with pytest.raises(UsageError, match=r"torch-pruning cannot follow its channels .*Methods that leave the channels in place: magnitude"):
        smaller(build("shufflenet_v2_x0_5", 10), 0.5, (3, 32, 32))


def test_channels_out_of_reach_say_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"--rate 0\.9999: removing channels cannot reach it; the nearest here is 0\.9\d+ \(\d+\.\d\dx\)"):
        smaller(build("resnet8", 10), 0.9999, (3, 32, 32))


def test_admm_ends_with_its_last_epoch_judged_after_the_cut(make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([(0.9, None), (0.5, None), (0.4, None), (0.3, None)])
    monkeypatch.setattr("harness.training.train.held_out", lambda *_: next(seen))
    job = make_job("radmm", "4x", epochs=3, until="admm")
    radmm(job)
    assert (job.fitted["admm"].kept.number, job.fitted["admm"].kept.clean) == (3, 0.3)
    assert [epoch.clean for epoch in job.fitted["admm"].history] == [0.9, 0.5, 0.4]


@pytest.mark.parametrize(("method", "rate"), [(qat_int8, ""), (lowbit, "w4a4"), (lowbit, "w32a4")])
def test_a_pruned_networks_zeros_outlive_quantization(method: Callable[[Job], nn.Module], rate: str, make_job: Callable[..., Job]) -> None:
    pruned = magnitude(make_job("magnitude", "0.5", pattern="2:4", epochs=1))
    before = {name: layer.weight == 0 for name, layer in prunable(pruned, "2:4").items()}
    after = method(make_job("qat-int8" if method is qat_int8 else "lowbit", rate, out="second", epochs=1, network=pruned))
    for name, layer in prunable(after, "2:4").items():
        assert (layer.weight[before[name]] == 0).all()
        assert (layer.weight[~before[name]] != 0).float().mean() > 0.8


def test_zeros_of_a_light_pruning_outlive_quantization_too(make_job: Callable[..., Job]) -> None:
    pruned = magnitude(make_job("magnitude", "0.2", epochs=1))
    zero = {name: layer.weight == 0 for name, layer in prunable(pruned, "irregular").items()}
    after = lowbit(make_job("lowbit", "w4a4", out="second", epochs=1, network=pruned))
    assert all((layer.weight[zero[name]] == 0).all() for name, layer in prunable(after, "irregular").items())


def test_an_int8_grid_is_no_pruning() -> None:
    assert pruned_before(build("resnet8", 10)) == {}
    twin = load_twin("resnet18x16-at-ptq-int8")
    assert any((layer.weight == 0).any() for layer in prunable(twin.module, "irregular").values()) and pruned_before(twin.module) == {}


@pytest.mark.parametrize("norm", [1, 2])
def test_channels_go_by_the_norm_that_the_recipe_names(norm: int) -> None:
    """Of two channels, one has the larger L1 norm and the other the larger L2 norm."""
    network = nn.Sequential(nn.Conv2d(1, 2, 2, bias=False), nn.Conv2d(2, 1, 1, bias=False)).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 1.0, 1.0, 1.0], [3.0, 0.0, 0.0, 0.0]]).view(2, 1, 2, 2))
        network[1].weight.fill_(1.0)
    left = without_channels(network, 0.5, (1, 4, 4), norm)
    assert left[0].weight.flatten().tolist() == ([1.0] * 4 if norm == 1 else [3.0, 0.0, 0.0, 0.0])


def test_channels_of_a_layer_that_cannot_be_read_back_are_told_before_any_training(make_job: Callable[..., Job]) -> None:
    job = make_job("filters", "1.5x", epochs=1, network=build("convnext_atto", 10))
    job.arch, job.input_shape = "convnext_atto", (3, 32, 32)
    with pytest.raises(UsageError, match=r"filters does not know every kind of layer of this network: .* of another shape"):
        filters(job)
    assert not job.fitted
