"""What a saved program may call: enough for classifiers, and nothing that a hostile argument turns against memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models import mobilevit
from timm.models.byobnet import ByobNet
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.resnet import BasicBlock

from harness.errors import UsageError
from harness.models import pt2_sizes
from harness.models.interpreter import GraphInterpreter, Instruction, Ref
from harness.models.pt2 import ASSERTIONS, read_pt2
from harness.models.pt2_operators import IN_PLACE, NAMES, PUBLIC, check_kinds, checked_int, find_operator
from harness.models.pt2_sizes import check_sizes

pytestmark = pytest.mark.slow(50)

# The targets in the exports of torchvision's and timm's classifiers, as saved and after run_decompositions().
CALLED = (Path(__file__).parents[2] / "golden" / "pt2_operators.txt").read_text().split()
ATEN = [
    (s.name.removeprefix("aten::"), s.overload_name or "default") for s in torch._C._jit_get_all_schemas() if s.name.startswith("aten::")
]
ACCEPTED = [(name, overload) for name, overload in ATEN if find_operator(f"torch.ops.aten.{name}.{overload}") is not None]


@pytest.mark.parametrize("target", CALLED)
def test_what_exported_classifiers_call_is_accepted(target: str) -> None:
    assert ASSERTIONS.fullmatch(target) or find_operator(target) is not None


def test_every_name_of_the_list_is_an_operator() -> None:
    assert {name for name, _ in ACCEPTED} >= (NAMES | IN_PLACE) - {name for name in NAMES if name.startswith("_")}


def test_nothing_internal_is_accepted() -> None:
    assert len(ATEN) > 2500 and len(ACCEPTED) < 500
    bad = re.compile(
        r"backward|unsafe|sparse|csr|coo|quantize|resize|set_|storage|from_file|from_blob|frombuffer|empty|random|rand|_out$|(?<!index_)put|scatter_"
    )
    assert [name for name, overload in ACCEPTED if (name not in PUBLIC and bad.search(name)) or re.search(r"(^|_)out$", overload)] == []
    assert {name for name, _ in ACCEPTED if name.startswith("_")} == {"_to_copy", *(name for name in PUBLIC if name.startswith("_"))}
    in_place = {name for name, _ in ACCEPTED if name.endswith("_")}
    assert in_place == IN_PLACE


def arguments_for(schema: torch.FunctionSchema, x: Tensor) -> tuple[list[Any], dict[str, Any]] | None:
    """What an operator needs, as far as tensors and plain numbers will do."""
    plain = {"Tensor": x, "List[Tensor]": [x, x], "int": 1, "SymInt": 1, "number": 1.5, "float": 0.5, "bool": False, "List[int]": [1, 1]}
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for argument in schema.arguments:
        kind = str(argument.type)
        if argument.has_default_value() and kind != "Tensor":
            continue
        if kind not in plain and not kind.startswith("Optional"):
            return None
        if argument.kwarg_only:
            named[argument.name] = plain.get(kind)
        else:
            positional.append(plain.get(kind))
    return positional, named


def derivatives(name: str, overload: str) -> list[str]:
    """Names of what leads back from an operator's results, on the first of a few shapes that it takes."""
    schema = getattr(getattr(torch.ops.aten, name), overload)._schema
    function = find_operator(f"torch.ops.aten.{name}.{overload}")
    for shape in ((2, 4, 8, 8), (4, 4), (2, 4, 8)):
        x = (torch.rand(shape) + 0.1).requires_grad_() * 1  # no leaf: operators in place change it
        given = arguments_for(schema, x)
        if given is None or function is None:
            return []
        try:
            result = function(*given[0], **given[1])
        except (RuntimeError, IndexError, TypeError, ValueError):
            continue
        results = result if isinstance(result, tuple | list) else [result]
        return [each.grad_fn.name() for each in results if isinstance(each, Tensor) and each.grad_fn is not None]
    return []


def test_every_operator_has_a_derivative() -> None:
    found = {f"{name}.{overload}": derivatives(name, overload) for name, overload in ACCEPTED}
    assert sum(map(bool, found.values())) > 150
    assert [key for key, names in found.items() if any("NotImplemented" in name for name in names)] == []


class OfItsDay(nn.Module):
    """Local response normalisation, padding by name, and arithmetic that exporters leave as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 4, padding="same"), nn.Linear(6, 3)
        self.norm = nn.LocalResponseNorm(3, alpha=0.5, k=2.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(x).relu())
        odd = (torch.arange(8).bitwise_xor(torch.arange(8) // 2) % 2).float()
        logits: Tensor = self.head((torch.atan(h) + torch.frac(3 * h) + torch.nan_to_num(h) * odd).mean((2, 3)))
        return logits


def read_back(module: nn.Module, decomposed: bool, path: Path) -> nn.Module:
    """The network of a program saved for any number of images of 8 x 8."""
    program = torch.export.export(module, (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    return read_pt2(path).network


class Transformed(nn.Module):
    """A spatial transformer before a cosine classifier, as papers write them."""

    def __init__(self) -> None:
        super().__init__()
        self.where, self.conv, self.centres = nn.Linear(3, 6), nn.Conv2d(3, 6, 3), nn.Parameter(torch.rand(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(self.where(x.mean((2, 3))).reshape(-1, 2, 3), list(x.shape), align_corners=False)
        h = F.normalize(torch.sinh(self.conv(F.grid_sample(x, grid, align_corners=False))).mean((2, 3)), dim=1)
        logits: Tensor = h @ F.normalize(self.centres, dim=1).T - torch.cdist(h, self.centres)
        return logits


@pytest.mark.parametrize("make", [OfItsDay, Transformed])
@pytest.mark.parametrize("decomposed", [False, True])
def test_an_own_network_comes_back_as_it_was(make: type[nn.Module], decomposed: bool, tmp_path: Path) -> None:
    module = make().eval()
    twin = read_back(module, decomposed, tmp_path / "own.pt2")
    x = torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(twin(x), module(x))


class Assigning(nn.Module):
    """Assigns to parts of a value, numbers and tensors, as shifts and masks are written."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        shifted = torch.zeros_like(h)
        shifted[:, :2, :, 1:] = h[:, :2, :, :-1]
        shifted[:, 2:] = h[:, 2:]
        shifted[:, :, 0] = 0.5
        shifted[shifted < 0.1] = 0
        shifted[:, [0, 3]] = shifted[:, [3, 0]]
        logits: Tensor = self.head(shifted.square().mean((2, 3)))
        return logits


@pytest.mark.parametrize("decomposed", [False, True])
def test_an_assignment_to_a_part_passes_the_gradient_on(decomposed: bool, tmp_path: Path) -> None:
    module = Assigning().eval()
    twin = read_back(module, decomposed, tmp_path / "assigning.pt2")
    gradients = []
    for network in (module, twin):
        x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        gradients.append(torch.autograd.grad(network(x)[:, 0].sum(), x)[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    assert float(gradients[0].abs().max()) > 0


def test_the_remainder_of_a_number() -> None:
    function = find_operator("torch.ops.aten.remainder.Scalar_Tensor")
    assert function is not None
    for y in (torch.tensor([0.3, 2.0]), torch.tensor([3, 4])):
        torch.testing.assert_close(function(7, y), torch.remainder(7, y))


TRUSTING = """
max_pool2d_with_indices_backward max_unpool2d sparse_coo_tensor _sparse_coo_tensor_unsafe _coalesced_ set_ resize_ _reshape_alias
empty_strided empty native_batch_norm _unsafe_index _embedding_bag put_ scatter_ _cslt_compress
_make_per_tensor_quantized_tensor _foreach_add_ rand from_file _fused_adam_ lstm item
""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", TRUSTING)
def test_operators_that_trust_their_arguments_are_refused(name: str) -> None:
    overloads = [overload for known, overload in ATEN if known == name] or ["default"]
    assert not any(find_operator(f"torch.ops.aten.{name}.{overload}") for overload in overloads)


# On numbers and lists alone: TorchScript's, which divide by 0 and make lists of any length unchecked.
@pytest.mark.parametrize(
    "target", ["remainder.int", "remainder.default", "mul.left_t", "mul_.t", "add.t", "slice.t", "copy.Dict_int", "to.prim_dtype"]
)
def test_overloads_that_take_no_tensor_are_refused(target: str) -> None:
    assert find_operator(f"torch.ops.aten.{target}") is None


KINDS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "a layout by its number": ("zeros_like.default", (Ref("x"),), {"layout": 16}),
    "a memory format by its number": ("clone.default", (Ref("x"),), {"memory_format": -1}),
    "a type by its number": ("full.default", ([4], 0.0), {"dtype": 99}),
    "a type out of an earlier step": ("to.dtype", (Ref("x"), Ref("size")), {}),
    "a device by its name": ("to.device", (Ref("x"), "meta", torch.float32), {}),
}


@pytest.mark.parametrize("case", KINDS)
def test_an_enumeration_is_no_number(case: str) -> None:
    """torch takes the numbers, and one that names none ends in native code."""
    name, values, named = KINDS[case]
    with pytest.raises(ValueError, match=r"expected a (layout|memory_format|dtype|device)"):
        check_kinds(f"torch.ops.aten.{name}", values, named)


def network(*calls: tuple[str, tuple[Any, ...]], **weights: Tensor) -> GraphInterpreter:
    """One operator after the other; the last result is returned. "x" in arguments is a reference, as is each "@NAME"."""
    steps = []
    for number, (target, arguments) in enumerate(calls):
        function = find_operator(target if "." in target else f"torch.ops.aten.{target}.default")
        assert function is not None, target
        values = tuple(Ref(a.removeprefix("@")) if isinstance(a, str) and (a == "x" or a[:1] == "@") else a for a in arguments)
        steps.append(Instruction(function, values, {}, (f"v{number}",)))
    return GraphInterpreter(steps, weights, "x", f"v{len(steps) - 1}")


LARGE = {
    "a constant": [("torch.ops.aten.full.default", ([1 << 15, 1 << 15], 0.0))],
    "a range": [("torch.ops.aten.arange.default", (1 << 30,))],
    "padding": [("torch.ops.aten.constant_pad_nd.default", ("x", [1 << 14] * 4))],
    "a repetition": [("torch.ops.aten.repeat.default", ("x", [1, 1, 1 << 12, 1 << 12]))],
    "an expanded view": [
        ("torch.ops.aten.as_strided.default", ("x", [1 << 15, 1 << 15], [0, 0])),
        ("torch.ops.aten.clone.default", ("@v0",)),
    ],
    "a resize": [("torch.ops.aten.upsample_nearest2d.default", ("x", [1 << 14, 1 << 14]))],
    "a padded convolution": [("torch.ops.aten.conv2d.default", ("x", "@w", None, [1, 1], [1 << 14, 1 << 14]))],
    "an outer product": [("torch.ops.aten.einsum.default", ("abcd,efgh,ijkl->abcdefghijkl", ["x", "x", "x"]))],
    "many values": [("torch.ops.aten.full.default", ([1 << 12, 1 << 11], 0.0)) for _ in range(40)]
    + [("torch.ops.aten.stack.default", ([f"@v{n}" for n in range(40)],))],
}


ENDLESS = {
    "a pool over everything": [
        ("torch.ops.aten.constant_pad_nd.default", ("x", [1 << 10] * 4)),
        ("torch.ops.aten.avg_pool2d.default", ("@v0", [1500, 1500], [1, 1], [700, 700])),
    ],
    "a pool over a volume": [
        ("torch.ops.aten.full.default", ([1, 1, 300, 300, 300], 1.0)),
        ("torch.ops.aten.avg_pool3d.default", ("@v0", [128], [1], [0])),
    ],
    "a largest value of everything": [
        ("torch.ops.aten.constant_pad_nd.default", ("x", [1 << 10] * 4)),
        ("torch.ops.aten.max_pool2d.default", ("@v0", [1500], [1, 1], [700, 700])),
    ],
    "a convolution of everything": [
        ("torch.ops.aten.full.default", ([1, 1, 4000, 4000], 1.0)),
        ("torch.ops.aten.full.default", ([1, 1, 2000, 2000], 1.0)),
        ("torch.ops.aten.conv2d.default", ("@v0", "@v1")),
    ],
    "products without end": [
        ("torch.ops.aten.full.default", ([4096, 4096], 1.0)),
        *(("torch.ops.aten.mm.default", (f"@v{n}", f"@v{n}")) for n in range(20)),
    ],
    "steps without end": [
        ("torch.ops.aten.full.default", ([1 << 24], 1.0)),
        *(("torch.ops.aten.sin.default", (f"@v{n}",)) for n in range(4200)),
    ],
}


@pytest.mark.parametrize("case", ENDLESS)
def test_work_without_end_is_refused_before_it_is_begun(case: str) -> None:
    calls = [(target, tuple(references(a) if isinstance(a, list) else a for a in arguments)) for target, arguments in ENDLESS[case]]
    with pytest.raises(UsageError, match=r"model\.pt2 asks for more than 2\.2e\+12 operations on one image"):
        check_sizes(Path("model.pt2"), network(*calls), (3, 16, 16))


PARTS = {
    "sections": ("torch.ops.aten.tensor_split.sections", ("x", 1 << 30)),
    "pieces": ("torch.ops.aten.split.Tensor", ("@v0", 1)),
    "chunks": ("torch.ops.aten.chunk.default", ("@v0", 1 << 24)),
    "rows": ("torch.ops.aten.unbind.int", ("@v0",)),
}


@pytest.mark.parametrize("case", PARTS)
def test_a_tensor_is_not_cut_into_parts_without_end(case: str) -> None:
    hostile = network(("torch.ops.aten.full.default", ([1 << 24], 0.0)), PARTS[case])
    with pytest.raises(UsageError, match=r"cuts a tensor into (16,777,216|1,073,741,824) parts"):
        check_sizes(Path("model.pt2"), hostile, (3, 16, 16))


def test_a_number_of_parts_out_of_a_tensor_is_refused() -> None:
    assert find_operator("torch.ops.aten.tensor_split.tensor_indices_or_sections") is None


def test_calls_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as one operator makes by itself."""
    monkeypatch.setattr(pt2_sizes, "MOST_CALLS", 300)  # each call up to the limit takes its time
    hostile = network(("torch.ops.aten.tensor_split.sections", ("x", 1 << 12)))
    with pytest.raises(UsageError, match=r"asks for more than 300 calls"):
        check_sizes(Path("model.pt2"), hostile, (3, 16, 16))


def references(value: Any) -> Any:
    return (
        [references(item) for item in value]
        if isinstance(value, list)
        else Ref(value.removeprefix("@"))
        if isinstance(value, str)
        else value
    )


@pytest.mark.parametrize("case", LARGE)
def test_sizes_without_end_are_refused_before_memory_is_taken(case: str) -> None:
    calls = [(target, tuple(references(a) if isinstance(a, list) else a for a in arguments)) for target, arguments in LARGE[case]]
    hostile = network(*calls, w=torch.ones(1, 3, 1, 1))
    with pytest.raises(UsageError, match=r"model\.pt2 asks for .* bytes at once for one image; expected at most"):
        check_sizes(Path("model.pt2"), hostile, (3, 16, 16))


FOUR = torch.ones(4)
OUTSIDE: dict[str, tuple[str, tuple[Any, ...]]] = {
    "a view beyond the storage": ("as_strided", ("x", [4], [1], 1 << 20)),
    "a view before the storage": ("as_strided", ("x", [4], [1], -8)),
    "a negative stride": ("as_strided", ("x", [4], [-1], 8)),
    "an embedding": ("embedding", ("@table", "@far")),
    "a negative embedding": ("embedding", ("@table", "@before")),
    "a gather": ("gather", ("@table", 0, "@far")),
    "an index": ("torch.ops.aten.index.Tensor", ("@table", [Ref("far")])),
    "a selection": ("index_select", ("@table", 0, "@row")),
    "an assignment": ("torch.ops.aten.index_put.default", ("@table", [Ref("row")], "@four")),
    "an assignment in place": ("torch.ops.aten.index_put_.default", ("@table", [Ref("row")], "@four", True)),
    "a scatter": ("torch.ops.aten.scatter.src", ("@table", 0, "@far", "@table")),
    "an addition": ("index_add", ("@table", 0, "@row", "@table")),
    "a copy": ("index_copy", ("@table", 0, "@row", "@table")),
    "a filling": ("torch.ops.aten.index_fill.int_Scalar", ("@table", 0, "@row", 1.0)),
    "a grid of another size": ("grid_sampler", ("x", "@table", 0, 0, False)),
    "a way of sampling that is none": ("grid_sampler", ("x", "@grid", 7, 0, False)),
    "short statistics": ("_native_batch_norm_legit_no_training", ("x", "@four", "@four", "@four", "@four", 0.1, 1e-5)),
    "a short norm": ("native_layer_norm", ("x", [16], "@four", "@four", 1e-5)),
    "another number of groups": ("native_group_norm", ("x", "@four", "@four", 1, 3, 1 << 20, 3, 1e-5)),
    "a tiny scale": ("upsample_nearest2d", ("x", [16, 16], 1e-300, 1e-300)),
    "a tiny scale as a whole number": ("upsample_nearest2d", ("x", [16, 16], 0, 0)),
    "a huge scale as a whole number": ("torch.ops.aten.upsample_nearest2d.vec", ("x", None, [1 << 30, 1 << 30])),
    "no number as scale": ("upsample_bilinear2d", ("x", [16, 16], False, float("nan"), None)),
}  # fmt: skip


@pytest.mark.parametrize("case", OUTSIDE)
def test_no_argument_leads_out_of_a_tensor(case: str) -> None:
    weights = {"table": torch.ones(4, 4), "four": FOUR, "far": torch.full((1, 1), 1 << 40), "before": torch.full((1, 1), -(1 << 40))}
    hostile = network(OUTSIDE[case], **weights, row=torch.tensor([1 << 40]), grid=torch.zeros(1, 2, 2, 2))
    with pytest.raises((IndexError, RuntimeError, ValueError, TypeError)):
        hostile(torch.ones(1, 8, 16, 16))


def test_arithmetic_is_on_numbers_alone() -> None:
    multiply = find_operator("_operator.mul")
    assert multiply is not None and multiply(6, 7) == 42
    for hostile in (([0], 1 << 40), ("a", 1 << 40), (1 << 62, 4)):
        with pytest.raises((TypeError, ValueError)):
            multiply(*hostile)
    with pytest.raises(ValueError, match="beyond any size"):
        checked_int(1 << 40)
    assert checked_int((1 << 63) - 1) > 0  # the end of an open slice


class Swap(nn.Module):
    """Group norm, attention and a slice that is written to: what decompositions write in their internal forms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, 2), nn.GroupNorm(2, 8), nn.Linear(8, 5)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        mask = torch.zeros(x.shape[1:])
        mask[:2] = 1
        x = nn.functional.layer_norm(x + self.attend(x, x, x)[0] * mask, [8])
        return self.head(nn.functional.normalize(x.mean(1), dim=1))


def small_mobilenet_v3() -> nn.Module:
    """Three of its blocks, which have all that the eleven have: both activations, with and without squeeze and excitation."""
    block = partial(InvertedResidualConfig, dilation=1, width_mult=1.0)
    settings = [
        block(16, 3, 16, 16, True, "RE", stride=2),
        block(16, 3, 32, 24, False, "HS", stride=2),
        block(24, 5, 48, 24, True, "HS", stride=1),
    ]
    return torchvision.models.MobileNetV3(settings, last_channel=32)


def small_mobilevit() -> nn.Module:
    """One block of each kind."""
    full = mobilevit.model_cfgs["mobilevit_xxs"]
    convolution, attention = full.blocks[2]
    narrow = replace(attention, block_kwargs={**attention.block_kwargs, "transformer_depth": 1})
    return ByobNet(replace(full, blocks=(full.blocks[0], (convolution, narrow))))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "norms and attention": (Swap, 16),
    "resnet": (lambda: torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1]), 32),
    "mobilenet_v3": (small_mobilenet_v3, 32),
    "shufflenet_v2": (lambda: torchvision.models.ShuffleNetV2([2, 1, 1], [24, 48, 96, 192, 1024]), 32),
    "timm vit": (lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1), 32),
    "timm mobilevit": (small_mobilevit, 64),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_architectures_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build, size = NETWORKS[name]
    network = build().eval()
    program = torch.export.export(network, (torch.rand(2, 3, size, size),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    images = torch.rand(3, 3, size, size)
    with torch.no_grad():
        expected = network(images)
        for form in (program, program.run_decompositions()):
            torch.export.save(form, tmp_path / "model.pt2")
            assert torch.allclose(read_pt2(tmp_path / "model.pt2").network(images), expected, rtol=1e-4, atol=1e-5)
