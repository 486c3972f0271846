"""Packed weights: what is written is what is read, bit for bit; what is damaged or of another version is one clear line."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.errors import UsageError
from harness.models import grids
from harness.models.architectures import build
from harness.models.load import load_twin
from harness.models.packed import KEY, pack, round_trip, unpack
from harness.models.weights import read_weights

FINITE = st.floats(-1e6, 1e6, width=32)
DENSE = arrays("float32", array_shapes(max_dims=4, max_side=6), elements=FINITE)
SPARSE = arrays("float32", array_shapes(min_dims=2, max_dims=4, max_side=8), elements=FINITE, fill=st.just(0.0))
LEVELS = st.lists(FINITE, min_size=1, max_size=9).flatmap(
    lambda levels: arrays("float32", array_shapes(min_dims=2, max_dims=4, max_side=8), elements=st.sampled_from(levels))
)
TENSORS = st.one_of(DENSE, SPARSE, LEVELS, arrays("int64", array_shapes(max_dims=2), elements=st.integers(-(2**40), 2**40)))


@given(st.dictionaries(st.from_regex(r"[a-z]{1,3}(\.[a-z]{1,3}){0,2}", fullmatch=True), TENSORS, min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_a_file_reads_back_as_the_round_trip_says(tmp_path_factory, weights) -> None:
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    path = tmp_path_factory.getbasetemp() / "packed.safetensors"
    pack(tensors, path)
    read, said = read_weights(path), round_trip(tensors)
    assert read.keys() == said.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].shape == tensor.shape
        assert torch.equal(read[name], said[name]) and read[name].dtype == said[name].dtype == tensor.dtype
        torch.testing.assert_close(read[name], tensor, rtol=1e-3, atol=6e-8)  # float16's
        assert not (tensor == 0).logical_and(read[name] != 0).any(), "a zero became something else"


def grid_tensors() -> dict[str, tuple[Tensor, float]]:
    """Tensors that must survive exactly, and the bytes per entry they may take."""
    torch.manual_seed(0)
    weight = torch.randn(64, 32, 3, 3)
    scale = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    half = weight.half().float()
    return {
        "int8 per output": ((weight / scale).round() * scale, 1.1),
        "one bit": (weight.sign() * 0.37, 1 / 8 + 0.01),
        "four bits": ((weight.clamp(-1, 1) * 7.5 + 7.5).round() * 2 / 15 - 1, 0.51),
        "three levels": (weight.sign() * (weight.abs() > 1), 0.26),
        "99 % zero in float16": (half * (half.abs() > 2.6), 1 / 8 + 0.03),
        "float16": (half, 2.01),
    }


@pytest.mark.parametrize("kind", grid_tensors())
def test_what_lies_on_a_grid_survives_and_is_small(kind: str, tmp_path: Path) -> None:
    tensor, bytes_per_entry = grid_tensors()[kind]
    pack({"w": tensor}, tmp_path / "w.safetensors")
    read = read_weights(tmp_path / "w.safetensors")["w"]
    if kind == "int8 per output":
        torch.testing.assert_close(read, tensor, rtol=1e-5, atol=0)
        assert torch.equal(grids.int8(read)[0], grids.int8(tensor)[0])
    else:
        assert torch.equal(read, tensor)
    assert (tmp_path / "w.safetensors").stat().st_size < bytes_per_entry * tensor.numel() + 400


def test_what_float16_cannot_hold_stays_float32() -> None:
    big = torch.tensor([[1e5, 2.0], [3.0, -1e-3]])
    assert torch.equal(round_trip({"w": big})["w"], big)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_channel_of_subnormal_halves_stays_float32(dim: int, share: float) -> None:
    """Whole channels below 2^-14, of a dense or of a pruned tensor; a few small weights beside large ones are float16's."""
    torch.manual_seed(0)
    weight = torch.rand(8, 6, 3, 3) + 0.5
    weight *= (torch.rand(weight.shape) >= share).float()
    mixed = weight.clone()
    mixed[2, 3, 0, 0] = 1e-6
    weight.select(dim, 1).mul_(1e-6)
    assert torch.equal(round_trip({"w": weight})["w"], weight)
    assert not torch.equal(round_trip({"w": mixed})["w"], mixed)


def test_a_network_loads_with_the_same_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build("resnet8", 10)
    pack(network.state_dict(), tmp_path / "n.safetensors")
    twin = load_twin(str(tmp_path / "n.safetensors"), arch="resnet8")
    network.load_state_dict(round_trip(network.state_dict()))
    x = torch.rand(4, 3, 32, 32)
    assert torch.equal(twin.module(x), network.eval()(x))


def test_names_of_the_format_itself() -> None:
    weights = {"a.scale": torch.rand(3), "a.mask": torch.rand(3), "b.codes": torch.rand(2, 2), "b.shape": torch.rand(1)}
    assert {name: tuple(t.shape) for name, t in round_trip(weights).items()} == {name: tuple(t.shape) for name, t in weights.items()}
    clash = {"a.codes": torch.zeros(2, 2, dtype=torch.int8), "a.scale": torch.rand(2)}
    with pytest.raises(UsageError, match="cannot be packed"):
        pack(clash, Path("nowhere.safetensors"))


def test_another_version_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={KEY: "2"})
    with pytest.raises(UsageError, match="packed in format 2; this version reads 1"):
        read_weights(tmp_path / "w.safetensors")


def test_a_plain_file_is_read_as_it_is(tmp_path: Path) -> None:
    weights = {"a.codes": torch.zeros(2, 2, dtype=torch.int8), "a.scale": torch.rand(2)}
    save_file(weights, tmp_path / "w.safetensors")
    assert read_weights(tmp_path / "w.safetensors").keys() == weights.keys()


PARTS = {
    "mask": {"w.mask": torch.zeros(2, dtype=torch.uint8), "w.shape": torch.tensor([4, 4]), "w.values": torch.zeros(0)},
    "levels": {"w.codes": torch.zeros(4, dtype=torch.uint8), "w.shape": torch.tensor([4, 4]), "w.levels": torch.arange(3.0)},
    "scale": {"w.codes": torch.zeros(4, 4, dtype=torch.int8), "w.scale": torch.ones(4)},
}
DAMAGE = {
    "mask too short": ("mask", {"w.mask": torch.zeros(1, dtype=torch.uint8)}),
    "mask of floats": ("mask", {"w.mask": torch.zeros(2)}),
    "values missing": ("mask", {"w.mask": torch.full((2,), 255, dtype=torch.uint8)}),
    "a shape of negative size": ("mask", {"w.shape": torch.tensor([-4, -4])}),
    "a shape of floats": ("mask", {"w.shape": torch.tensor([4.0, 4.0])}),
    "a shape of many terabytes": ("levels", {"w.shape": torch.tensor([2**31, 2**31])}),
    "a code beyond the levels": ("levels", {"w.codes": torch.full((4,), 255, dtype=torch.uint8)}),
    "levels in a matrix": ("levels", {"w.levels": torch.zeros(3, 2)}),
    "no level": ("levels", {"w.levels": torch.zeros(0)}),
    "scales of other outputs": ("scale", {"w.scale": torch.ones(3)}),
    "codes of floats": ("scale", {"w.codes": torch.zeros(4, 4)}),
    "codes without outputs": ("scale", {"w.codes": torch.zeros((), dtype=torch.int8)}),
}


@pytest.mark.parametrize("case", PARTS)
def test_sound_parts_unpack(case: str) -> None:
    assert unpack(PARTS[case])["w"].shape == (4, 4)


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_parts_are_one_clear_line(case: str, tmp_path: Path) -> None:
    kind, change = DAMAGE[case]
    save_file({**PARTS[kind], **change}, tmp_path / "w.safetensors", metadata={KEY: "1"})
    with pytest.raises(UsageError, match="is not a readable safetensors file: w:") as caught:
        read_weights(tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_changed_file_is_read_or_refused(tmp_path_factory, data) -> None:
    """Any byte changed, anywhere: never another error, never other names."""
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    pack({f"{name}.weight": tensor for name, (tensor, _) in {k.split()[0]: v for k, v in small_grids().items()}.items()}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content), len(content) // 2]))])
    try:
        read_weights(path)
    except UsageError as error:
        assert "\n" not in str(error)


def small_grids() -> dict[str, tuple[Tensor, float]]:
    return {name: (tensor[:4, :4, :2, :2], size) for name, (tensor, size) in grid_tensors().items()}


def test_loading_twice_drifts_by_no_code(tmp_path: Path) -> None:
    tensor, _ = grid_tensors()["int8 per output"]
    once = round_trip({"w": tensor})
    twice = round_trip(once)
    assert torch.equal(grids.int8(once["w"])[0], grids.int8(twice["w"])[0])
    torch.testing.assert_close(once["w"], twice["w"], rtol=1e-6, atol=0)


def test_stored_tensors_are_of_the_documented_kinds(tmp_path: Path) -> None:
    pack({k.replace(" ", "_"): t for k, (t, _) in grid_tensors().items()}, tmp_path / "w.safetensors")
    names = {name.rpartition(".")[2] for name in load_file(tmp_path / "w.safetensors")}
    assert {"codes", "scale", "levels", "shape", "mask", "values"} <= names
