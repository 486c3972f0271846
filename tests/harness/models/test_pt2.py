"""Saved torch.export programs are read as data: equal to the program, and nothing that a hostile file holds is run."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.errors import UsageError
from harness.models.pt2 import read_pt2
from harness.models.pt2_operators import find_operator
from harness.models.resnet import resnet8

pytestmark = pytest.mark.slow(20)


class Mixed(nn.Module):
    """One of each kind of argument and weight: in-place, symbolic sizes, lists, text, a constant, a buffer, several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.register_buffer("shift", torch.randn(8, 1, 1))
        self.scale = torch.randn(1)
        self.activate, self.head = nn.GELU("tanh"), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.norm(self.conv(x))) * self.scale + self.shift
        left, right = self.activate(x).chunk(2, dim=1)
        x = torch.cat([left.amax((2, 3)), right.mean((2, 3)), left.reshape(x.shape[0], 4, -1)[:, :, :4].flatten(1)], 1)
        return self.head(x)


@lru_cache
def saved(name: str = "mixed") -> tuple[nn.Module, bytes]:
    """(network, the bytes of its saved program with a dynamic batch)."""
    torch.manual_seed(0)
    network = {"mixed": Mixed, "resnet8": resnet8}[name]().eval()
    program = torch.export.export(network, (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return network, buffer.getvalue()


def write(folder: Path, content: bytes | None = None) -> Path:
    path = folder / "model.pt2"
    path.write_bytes(saved()[1] if content is None else content)
    return path


@pytest.mark.parametrize("name", ["mixed", "resnet8"])
def test_a_program_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    network, content = saved(name)
    program = read_pt2(write(tmp_path, content))
    assert program.input_shape == (3, 8, 8)
    assert sum(p.numel() for p in program.network.parameters()) == sum(p.numel() for p in network.parameters())
    for n in (1, 2, 5):
        x, y = (torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(n)).requires_grad_() for _ in range(2))
        expected, got = network(x), program.network(y)
        assert torch.equal(expected, got)
        expected.square().sum().backward()
        got.square().sum().backward()
        assert torch.equal(x.grad, y.grad)


def test_a_program_can_be_exported_again(tmp_path: Path) -> None:
    network = read_pt2(write(tmp_path)).network.eval()
    program = torch.export.export(network, (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    images = torch.rand(5, 3, 8, 8)
    assert torch.equal(program(images), network(images))


Records = dict[str, bytes]


def rewritten(change: Callable[[Records], None]) -> bytes:
    """The saved program with its records changed."""
    with zipfile.ZipFile(io.BytesIO(saved()[1])) as archive:
        root = archive.namelist()[0].split("/")[0]
        records = {name.removeprefix(f"{root}/"): archive.read(name) for name in archive.namelist()}
    change(records)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"{root}/{name}", content)
    return buffer.getvalue()


def edit(records: Records, name: str, change: Callable[[Any], None]) -> None:
    parsed = json.loads(records[name])
    change(parsed)
    records[name] = json.dumps(parsed).encode()


class Bomb:
    """Makes a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def pickled(path: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Bomb(path), buffer)
    return buffer.getvalue()


MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"


def in_sample_inputs(records: Records, mark: Path) -> None:
    records["data/sample_inputs/model.pt"] = pickled(mark)


def in_weights(records: Records, mark: Path) -> None:
    def change(config: Any) -> None:
        entry = next(iter(config["config"].values()))
        entry["use_pickle"] = True
        records[f"data/weights/{entry['path_name']}"] = pickled(mark)

    edit(records, WEIGHTS, change)


def in_constants(records: Records, mark: Path) -> None:
    def change(config: Any) -> None:
        entry = next(iter(config["config"].values()))
        entry["path_name"] = "opaque_obj_0"
        records["data/constants/opaque_obj_0"] = pickled(mark)

    edit(records, "data/constants/model_constants_config.json", change)


def in_a_size(records: Records, mark: Path) -> None:
    def change(model: Any) -> None:
        graph = model["graph_module"]["graph"]
        for value in graph["tensor_values"].values():
            value["sizes"][:1] = [{"as_expr": {"expr_str": f"__import__('os').mkdir({str(mark)!r})", "hint": {"as_int": 2}}}]

    edit(records, MODEL, change)


def call(target: str, *arguments: Any) -> Callable[[Records, Path], None]:
    """A first node that calls `target`."""

    def harm(records: Records, mark: Path) -> None:
        inputs = [{"name": "", "arg": {"as_string": str(mark)} if a is Path else a, "kind": 1} for a in arguments]
        node = {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": "harm"}}], "metadata": {}}
        edit(records, MODEL, lambda model: model["graph_module"]["graph"]["nodes"].insert(0, node))

    return harm


HOSTILE: dict[str, tuple[Callable[[Records, Path], None], str | None]] = {
    "a pickle as sample input": (in_sample_inputs, None),  # never looked at
    "a pickle as weight": (in_weights, "stored as a pickle, which is never loaded"),
    "a pickle as constant": (in_constants, "stored as a pickle, which is never loaded"),
    "code as size": (in_a_size, None),  # never looked at
    "a function of os": (call("torch.os.mkdir", Path), r"calls torch\.os\.mkdir; only operators of torch\.ops\.aten"),
    "an operator that opens a file": (
        call("torch.ops.aten.from_file.default", Path, {"as_bool": True}, {"as_int": 4}),
        r"calls torch\.ops\.aten\.from_file\.default",
    ),
    "torch.load": (call("torch.load", Path), r"calls torch\.load"),
    "a way out of the namespace": (call("torch.ops.aten.__class__.__init__"), r"calls torch\.ops\.aten\.__class__"),
    "an operator without bounds checks": (call("torch.ops.aten._unsafe_index.Tensor"), "_unsafe_index"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_in_a_hostile_file_runs(case: str, tmp_path: Path) -> None:
    harm, message = HOSTILE[case]
    mark = tmp_path / "ran"
    path = write(tmp_path, rewritten(lambda records: harm(records, mark)))
    if message is None:
        network = read_pt2(path).network
        assert torch.equal(network(torch.zeros(1, 3, 8, 8)), saved()[0](torch.zeros(1, 3, 8, 8)))
    else:
        with pytest.raises(UsageError, match=message):
            read_pt2(path)
    assert not mark.exists()


def test_the_pickle_of_these_tests_does_run_where_pickles_are_loaded(tmp_path: Path) -> None:
    torch.load(io.BytesIO(pickled(tmp_path / "ran")), weights_only=False)
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize(
    "target", ["torch.ops.aten.conv2d.default", "torch.ops.aten.gelu.default", "_operator.mul", "torch.ops.aten.relu_.default"]
)
def test_ordinary_operators_are_accepted(target: str) -> None:
    assert find_operator(target) is not None


def without(name: str) -> Callable[[Records], None]:
    return lambda records: records.pop(name) and None


def change_model(change: Callable[[Any], None]) -> Callable[[Records], None]:
    return lambda records: edit(records, MODEL, change)


def two_outputs(model: Any) -> None:
    specs = model["graph_module"]["signature"]["output_specs"]
    specs.append(specs[0])


def short_weight(records: Records) -> None:
    records["data/weights/weight_0"] = records["data/weights/weight_0"][:-8]


def huge(**meta: Any) -> Callable[[Records], None]:
    """The first weight claims 2^40 numbers."""

    def change(config: Any) -> None:
        next(iter(config["config"].values()))["tensor_meta"].update(sizes=[{"as_int": 2**20}] * 2, **meta)

    return lambda records: edit(records, WEIGHTS, change)


def huge_and_empty(records: Records) -> None:
    huge()(records)
    records["data/weights/weight_0"] = b""


def many_views(records: Records) -> None:
    """The first weight, seen from a thousand places."""

    def change(config: Any) -> None:
        name, entry = next(iter(config["config"].items()))
        record, sizes = entry["path_name"], [{"as_int": 5000}]
        records[f"data/weights/{record}"] = bytes(4 * 6100)
        for offset in range(1000):
            meta = entry["tensor_meta"] | {"sizes": sizes, "strides": [{"as_int": 1}], "storage_offset": {"as_int": offset}}
            config["config"][f"{name}.{offset}"] = entry | {"tensor_meta": meta}

    edit(records, WEIGHTS, change)


def integer_input(model: Any) -> None:
    model["graph_module"]["graph"]["tensor_values"]["x"]["dtype"] = 5


def complex_weight(config: Any) -> None:
    next(iter(config["config"].values()))["tensor_meta"]["dtype"] = 10


def complex_input(model: Any) -> None:
    model["graph_module"]["graph"]["tensor_values"]["x"]["dtype"] = 11


LAYOUT = {
    "target": "torch.ops.aten.zeros_like.default",
    "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "x"}}, "kind": 1}, {"name": "layout", "arg": {"as_int": 16}, "kind": 2}],
    "outputs": [{"as_tensor": {"name": "harm"}}],
    "metadata": {},
}
DAMAGED: dict[str, tuple[Callable[[Records], None], str]] = {
    "no graph": (without(MODEL), r"lacks models/model\.json"),
    "no weights": (without(WEIGHTS), "lacks data/weights"),
    "a missing weight": (without("data/weights/weight_0"), r"lacks data/weights/weight_0"),
    "a short weight": (short_weight, "is damaged"),
    "a number repeated for ever": (huge(strides=[{"as_int": 0}] * 2), r"claims 4,398,046,511,104 bytes, shape \(1048576, 1048576\)"),
    "an endless weight without a byte": (huge_and_empty, "claims 4,398,046,511,104 bytes"),
    "many views of one weight": (many_views, r"makes [\d,]+ bytes of weights from"),
    "no JSON": (lambda records: records.update({MODEL: b"{"}), "is damaged"),
    "another schema": (change_model(lambda m: m["schema_version"].update(major=7)), r"has schema 7\.\d+; this version reads 8"),
    "two outputs": (change_model(two_outputs), "returns user_output, user_output; expected the logits alone"),
    "an integer input": (change_model(integer_input), "expected float32 images"),
    "a complex weight": (
        lambda r: edit(r, WEIGHTS, complex_weight),
        r"'[\w.]+' is of type complex64, which is not read from a .pt2; expected uint8",
    ),
    "a complex input": (change_model(complex_input), "the input is of type complex128"),
    "a layout by its number": (
        change_model(lambda m: m["graph_module"]["graph"]["nodes"].insert(0, LAYOUT)),
        r"is damaged: ValueError .*layout of torch\.ops\.aten\.zeros_like\.default is 16; expected a layout",
    ),
    "an unknown argument": (
        change_model(lambda m: m["graph_module"]["graph"]["nodes"][0]["inputs"][0].update(arg={"as_graph": {}})),
        "is damaged: ValueError .*as_graph",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_program_is_one_clear_line(case: str, tmp_path: Path) -> None:
    change, message = DAMAGED[case]
    with pytest.raises(UsageError, match=message) as caught:
        read_pt2(write(tmp_path, rewritten(change)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 truncated"])
def test_another_file_is_one_clear_line(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a torch\.export program: .*torch\.export\.save"):
        read_pt2(write(tmp_path, content))


def test_a_truncated_program_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a torch\.export program"):
        read_pt2(write(tmp_path, saved()[1][:-300]))


def test_a_checkpoint_named_pt2_is_not_unpickled(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lacks models/model\.json"):
        read_pt2(write(tmp_path, pickled(tmp_path / "ran")))
    assert not (tmp_path / "ran").exists()


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/models/model.json", b" " * 100_000)
    with pytest.raises(UsageError, match="compressed records"):
        read_pt2(tmp_path / "model.pt2")


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.pt2: No such file"):
        read_pt2(tmp_path / "none.pt2")


class Twice(nn.Module):
    """One layer of weights under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).mean((2, 3)))


def test_weights_under_two_names_stay_one(tmp_path: Path) -> None:
    network = Twice().eval()
    torch.export.save(torch.export.export(network, (torch.rand(2, 3, 8, 8),)), tmp_path / "model.pt2")
    back = read_pt2(tmp_path / "model.pt2").network
    assert sum(p.numel() for p in back.parameters()) == sum(p.numel() for p in network.parameters())
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(back(images), network(images))


class WithAHead(nn.Module):
    """A network with a layer that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(12, 5), nn.Linear(12, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(x.flatten(1))
        return logits


def test_weights_that_nothing_reads_are_none_of_the_network(tmp_path: Path) -> None:
    program = torch.export.export(WithAHead().eval(), (torch.rand(2, 3, 2, 2),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, tmp_path / "it.pt2")
    network = read_pt2(tmp_path / "it.pt2").network
    assert sum(tensor.numel() for tensor in network.parameters()) == 12 * 5 + 5


class Stepped(nn.Module):
    """A layer of steps, and the same with the gradient that is meant."""

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x).flatten(1) * 2.0


def everywhere(x: Tensor) -> Tensor:
    return torch.ones_like(x)


# A step, and the gradient that it has where it is read back.
STEPS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "round": (torch.round, everywhere),
    "round to tenths": (lambda x: torch.round(x, decimals=1), everywhere),
    "floor": (torch.floor, everywhere),
    "ceil": (torch.ceil, everywhere),
    "trunc": (torch.trunc, everywhere),
    "fix": (torch.fix, everywhere),
    "sign": (torch.sign, lambda x: (x.abs() < 1).float()),
    "signed root": (lambda x: x.sign() * (x.abs() + 0.1).sqrt(), lambda x: 0.5 / (x.abs() + 0.1).sqrt()),
    "soft threshold": (lambda x: x.sign().mul_((x.abs() - 0.3).relu()), lambda x: (x.abs() > 0.3).float()),
    "half away from zero": (lambda x: x.sign() * (x.abs() * 15 + 0.5).floor() / 15, everywhere),
    "power pool": (lambda x: nn.functional.lp_pool2d(x, 2, 1), lambda x: x.sign()),
    "three levels": (lambda x: x.sign() * (x.abs() > 0.3), lambda x: ((x.abs() > 0.3) & (x.abs() < 1)).float()),
    "division": (lambda x: torch.div(x, 0.25, rounding_mode="floor") * 0.25, everywhere),
    "division by a tensor": (lambda x: torch.div(x, torch.tensor(0.25), rounding_mode="trunc") * 0.25, everywhere),
    "floor division": (lambda x: (x // 0.25) * 0.25, everywhere),
    "DoReFa": (lambda x: (x.clamp(0, 1) * 15).round() / 15, lambda x: ((x > 0) & (x < 1)).float()),
    "integers": (lambda x: x.to(torch.int32).to(torch.float32), everywhere),
    "integers by the type of another": (lambda x: (x * 20).to(torch.int8).type_as(x) / 20, everywhere),
    "integers in between": (lambda x: ((x * 15).int() + 1).clamp(-20, 20).reshape(x.shape).float() / 15, lambda x: (x.abs() < 1.2).float()),
    "integers times a float": (lambda x: (x * 15).to(torch.int64) * (1 / 15), everywhere),
    "integers divided": (lambda x: (x * 15).to(torch.int16) / 15, everywhere),
}


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_passes_the_gradient_straight_through(name: str, decomposed: bool, tmp_path: Path) -> None:
    step, expected = STEPS[name]
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    x = torch.where((x.abs() - 1.25).abs() < 0.15, 0.5 * x, x)  # not at the bounds
    network = Stepped(step).eval()
    program = torch.export.export(network, (torch.rand(2, 3, 4, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    buffer = io.BytesIO()
    torch.export.save(program.run_decompositions() if decomposed else program, buffer)
    read = read_pt2(write(tmp_path, buffer.getvalue())).network.eval()
    y = x.clone().requires_grad_()
    logits = read(y)
    assert torch.equal(logits, network(x))
    (gradient,) = torch.autograd.grad(logits.sum(), y)
    torch.testing.assert_close(gradient, 2 * expected(x))


BYTES: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {  # the function, and whether a gradient passes it
    "less a hundred": (lambda b: b - 100, False),
    "doubled": (lambda b: b * 2, False),
    "negated": (lambda b: -b, False),
    "to themselves": (lambda b: b + b, False),
    "bounded": (lambda b: b.clamp(20, 100), True),
    "divided": (lambda b: b / 255, True),
    "as they are": (lambda b: b, True),
}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16])
@pytest.mark.parametrize("case", BYTES)
def test_narrow_integers_go_round_as_they_do_in_the_program(case: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """5 - 100 is 161 in bytes. Carried as floats, so that a gradient passes, it would be -95: another network."""
    function, passes = BYTES[case]
    network = Stepped(lambda x: function((x * torch.iinfo(dtype).max).to(dtype)).float()).eval()
    program = torch.export.export(network, (torch.rand(2, 3, 4, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    x = torch.rand(4, 3, 4, 4).requires_grad_()
    logits = read_pt2(write(tmp_path, buffer.getvalue())).network(x)
    assert torch.equal(logits, network(x.detach()))
    assert logits.requires_grad == passes


def test_integers_that_are_read_as_an_index_stay_integers(tmp_path: Path) -> None:
    table = torch.tensor([5.0, 7.0])
    network = Stepped(lambda x: table[x.to(torch.int64)] * x).eval()
    program = torch.export.export(network, (torch.rand(2, 3, 4, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    x = (torch.rand(2, 3, 4, 4) * 1.9).requires_grad_()
    (gradient,) = torch.autograd.grad(read_pt2(write(tmp_path, buffer.getvalue())).network(x).sum(), x)
    assert set(gradient.unique().tolist()) <= {10.0, 14.0}


class Masked(nn.Module):
    """A batch norm, and a mask of -infinity behind a slice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.scale = nn.BatchNorm2d(3), nn.Parameter(torch.ones(3, 1, 1))
        self.register_buffer("mask", torch.zeros(16).index_fill(0, torch.tensor([3]), -torch.inf))

    def forward(self, x: Tensor) -> Tensor:
        return ((self.norm(x) * self.scale).flatten(1)[:, :16] + self.mask[:16]).softmax(1)


@pytest.mark.parametrize(("name", "value"), [("norm.running_var", "inf"), ("norm.weight", "nan"), ("scale", "inf"), ("mask", "nan")])
def test_weights_that_are_not_finite_are_refused_by_name(name: str, value: str, tmp_path: Path) -> None:
    network = Masked().eval()

    def file() -> Path:
        program = torch.export.export(network, (torch.rand(2, 3, 4, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        return write(tmp_path, buffer.getvalue())

    read_pt2(file())
    network.state_dict()[name].view(-1)[1] = float(value)
    with pytest.raises(UsageError, match=f"1 of the .* values of '[pb]_{name.replace('.', '_')}' are NaN"):
        read_pt2(file())
