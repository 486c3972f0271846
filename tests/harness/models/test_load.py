"""`--model`: every form becomes the same kind of twin; every bad input is one clear line."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from export.artefact import sha256_file
from export.macs import macs
from export.onnx import export_onnx
from harness.errors import UsageError
from harness.models import probe
from harness.models import shipped as shipped_networks
from harness.models.architectures import build, family, head_keys, image_size_of
from harness.models.engine_file import take_in
from harness.models.kinds import check_kind
from harness.models.load import load_twin
from harness.models.normalisation import parse_normalisation
from harness.models.resnet import resnet8

pytestmark = pytest.mark.slow(20)


@lru_cache
def network() -> nn.Module:
    torch.manual_seed(0)
    return resnet8(7).eval()


def saved(folder: Path, module: nn.Module | None = None, prefix: str = "") -> str:
    path = folder / "mine.safetensors"
    state = (module or network()).state_dict()
    save_file({prefix + key: value.contiguous() for key, value in state.items()}, path)
    return str(path)


def as_safetensors(folder: Path) -> tuple[str, dict[str, Any]]:
    return saved(folder), {"arch": "resnet8"}


def as_pt2(folder: Path) -> tuple[str, dict[str, Any]]:
    program = torch.export.export(network(), (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, folder / "mine.pt2")
    return str(folder / "mine.pt2"), {}


def as_onnx(folder: Path) -> tuple[str, dict[str, Any]]:
    onnx.save(export_onnx(network(), (3, 32, 32)), folder / "mine.onnx")
    return str(folder / "mine.onnx"), {}


@pytest.mark.parametrize("write", [as_safetensors, as_pt2, as_onnx])
def test_every_form_of_a_network_becomes_the_same_twin(write: Callable[[Path], tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    model, options = write(tmp_path)
    twin = load_twin(model, **options)
    assert (twin.name, twin.source, twin.arch) == ("mine", Path(model).suffix[1:], options.get("arch"))
    assert (twin.input_shape, twin.classes, twin.card) == ((3, 32, 32), 7, {})
    assert twin.sha256 == sha256_file(Path(model))
    assert twin.macs == probe.macs(network(), (3, 32, 32)) > 0
    assert twin.nonzero_parameters <= twin.parameters
    assert not twin.module.training
    assert not any(p.requires_grad for p in twin.module.parameters())
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(twin.module(images), network()(images), atol=1e-5, rtol=1e-4)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A zoo with one network in it, and a card without weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    save_file(network().state_dict(), folder / "little.safetensors")
    card = {"arch": "resnet8", "classes": 7, "input_shape": [3, 32, 32], "eps": "8/255"}
    for name in ("little", "card-alone"):
        (folder / f"{name}.json").write_text(json.dumps(card))
    monkeypatch.setattr(shipped_networks, "WEIGHTS", folder)
    return card


def test_a_zoo_name_loads_with_its_card(shipped: dict[str, Any]) -> None:
    assert shipped_networks.cards() == {"little": shipped}
    twin = load_twin("little")
    assert (twin.name, twin.source, twin.arch, twin.card) == ("little", "zoo", "resnet8", shipped)


def test_a_folder_of_a_shipped_networks_name_does_not_hide_it(
    shipped: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "little").mkdir()
    monkeypatch.chdir(tmp_path)
    check_kind("little")
    with pytest.raises(UsageError, match=r"no known kind"):
        check_kind("./little")


@pytest.mark.parametrize("name", sorted(shipped_networks.cards()))
def test_every_network_shipped_loads_and_is_what_its_card_says(name: str) -> None:
    twin = load_twin(name)
    assert (twin.sha256, twin.parameters, twin.macs) == tuple(twin.card[key] for key in ("sha256", "parameters", "macs"))


def test_a_card_beside_the_weights_tells_what_they_do_not(tmp_path: Path) -> None:
    file = Path(saved(tmp_path))
    card = {
        "arch": "resnet8",
        "classes": 7,
        "input_shape": [3, 24, 24],
        "normalize": "cifar10",
        "eps": "2/255",
        "sha256": sha256_file(file),
    }
    file.with_suffix(".json").write_text(json.dumps(card))
    twin = load_twin(str(file))
    assert (twin.source, twin.arch, twin.input_shape, twin.card) == ("safetensors", "resnet8", (3, 24, 24), card)
    same = load_twin(str(file), arch="resnet8", normalize="0/1")
    assert same.input_shape == (3, 24, 24)
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in parse_normalisation("cifar10", 3))
    images = torch.rand(2, 3, 24, 24)
    torch.testing.assert_close(twin.module(images), same.module((images - mean) / std), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"arch": None}, {"input_shape": "large"}, None], ids=str)
def test_a_card_of_something_else_is_no_card(change: dict[str, Any] | None, tmp_path: Path) -> None:
    file = Path(saved(tmp_path))
    card = {"arch": "resnet8", "classes": 7, "input_shape": [3, 24, 24], "sha256": sha256_file(file)}
    file.with_suffix(".json").write_text("not JSON" if change is None else json.dumps(card | change))
    with pytest.raises(UsageError, match="--arch"):
        load_twin(str(file))
    assert load_twin(str(file), arch="resnet8").input_shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (lambda text: text.replace(text.split('"')[-2], "0" * 64), r"a card of other weights \(000000000000…, these are"),
        (lambda text: text.replace("resnet8", "resnet18"), "a card of resnet18, not of --arch resnet8: nothing of it is used"),
        (lambda text: text[:-5], r"\.json beside the weights is damaged"),
        (lambda text: "not JSON", None),
        (lambda text: "{}", None),
    ],
    ids=["other weights", "another architecture", "cut off", "no JSON", "something else"],
)
def test_a_card_that_is_not_used_is_told(change: Callable[[str], str], remark: str | None, tmp_path: Path) -> None:
    """Without its radius and its normalisation the network was judged as another, without a word."""
    file = Path(saved(tmp_path))
    card = {"arch": "resnet8", "classes": 7, "input_shape": [3, 32, 32], "normalize": "cifar10", "sha256": sha256_file(file)}
    file.with_suffix(".json").write_text(change(json.dumps(card)))
    said = load_twin(str(file), arch="resnet8").remarks
    assert (len(said) == 0) if remark is None else re.search(remark, said[0])


def test_the_macs_of_resnet18_are_exact() -> None:
    """1,814,073,344: summed by hand over He et al.'s table 1 (and torchvision's own 1.814 GFLOPS)."""
    network = models.resnet18()
    assert probe.macs(network.eval(), (3, 224, 224)) == 1_814_073_344
    assert probe.parameters(network)[0] == 11_689_512


class ByEinsum(nn.Module):
    """A linear layer as an einsum, half of whose weights are zero, behind one whose weights stand first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Parameter(torch.ones(12, 48)), nn.Parameter(torch.ones(5, 3, 4))
        self.first.data[:3] = self.last.data[:, :2] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = (self.first @ x.flatten(1).transpose(0, 1)).transpose(0, 1)
        return torch.einsum("nab,kab->nk", hidden.unflatten(1, (3, 4)), self.last)


def test_weights_of_an_einsum_and_weights_that_stand_first_are_counted() -> None:
    assert probe.macs_and_zeros(ByEinsum(), (3, 4, 4)) == (12 * 48 + 60, 3 * 48 + 40)


def test_products_of_two_activations_are_not_macs() -> None:
    layer = nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)).eval()
    tokens, width, hidden = 5, 16, 32
    assert probe.macs(layer, (tokens, 4, 4)) == tokens * (3 * width * width + width * width + 2 * width * hidden)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_linear_layer_on_transposed_windows_is_counted(frozen: bool) -> None:
    """Its weights, frozen, are repeated for every row of windows and multiplied as a batch."""

    class OnWindows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.layer(x.transpose(1, 2))  # (1, rows, columns, channels)
            return found

    assert probe.macs(OnWindows().requires_grad_(not frozen), (6, 4, 8)) == 6 * 4 * 8 * 5


def test_zero_weights_are_counted_apart() -> None:
    layer = nn.Linear(10, 10)
    with torch.no_grad():
        layer.weight.fill_(1)[:3] = 0
        layer.bias.fill_(1)
    assert probe.parameters(layer) == (110, 80)


def test_a_torchvision_mobilenet_at_224_with_its_normalisation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = models.mobilenet_v3_small(num_classes=23).eval()
    twin = load_twin(saved(tmp_path, source), arch="mobilenet_v3_small", normalize="imagenet")
    assert (twin.input_shape, twin.classes) == ((3, 224, 224), 23)
    assert twin.parameters == sum(p.numel() for p in source.parameters())
    images = torch.rand(2, 3, 224, 224)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(twin.module(images), source((images - mean) / std))
    assert load_twin(saved(tmp_path, source), arch="mobilenet_v3_small", image_size=64).input_shape == (3, 64, 64)


def test_a_timm_network_and_a_transformer_of_another_size(tmp_path: Path) -> None:
    source = build("test_vit", 9, 64)
    assert family("test_vit") == "timm"
    assert load_twin(saved(tmp_path, source), arch="test_vit", image_size=64).classes == 9
    with pytest.raises(UsageError, match=r"do not fit --arch test_vit: 1 of another shape \(pos_embed"):
        load_twin(saved(tmp_path, source), arch="test_vit")


@pytest.mark.parametrize(
    ("arch", "data", "image_size", "expected"),
    [
        ("resnet8", (3, 48, 40), None, (3, 48, 40)),
        ("resnet8", (3, 48, 40), 64, (3, 64, 64)),
        ("resnet8", None, None, (3, 32, 32)),
        ("mobilenet_v3_small", (3, 32, 32), None, (3, 32, 32)),
        ("vit_tiny_patch16_224", (3, 32, 32), None, (3, 224, 224)),  # its weights fix it
    ],
)
def test_the_data_s_size_is_taken_where_nothing_else_says_it(
    arch: str, data: tuple[int, int, int] | None, image_size: int | None, expected: tuple[int, int, int], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    path = saved(tmp_path, build(arch, 7))
    assert load_twin(path, arch=arch, data_shape=data, image_size=image_size).input_shape == expected


def test_a_size_that_an_onnx_file_leaves_open_is_the_data_s(tmp_path: Path) -> None:
    path = open_onnx(tmp_path)
    assert load_twin(path, data_shape=(3, 20, 24)).input_shape == (3, 20, 24)
    assert load_twin(path, data_shape=(3, 20, 24), image_size=16).input_shape == (3, 16, 16)
    with pytest.raises(UsageError, match="leaves its input size open"):
        load_twin(path)


def test_channels_that_an_onnx_file_leaves_open_are_the_data_s(tmp_path: Path) -> None:
    model = export_onnx(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval(), (1, 8, 8))
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    for dim, name in zip(sizes, "nchw", strict=True):
        dim.dim_param = name
    onnx.save(model, tmp_path / "grey.onnx")
    assert load_twin(str(tmp_path / "grey.onnx"), data_shape=(1, 9, 7)).input_shape == (1, 9, 7)
    assert load_twin(str(tmp_path / "grey.onnx"), data_shape=(1, 9, 7), image_size=8).input_shape == (1, 8, 8)


def test_a_negative_size_of_an_onnx_file_is_an_open_one(tmp_path: Path) -> None:
    """As PaddlePaddle's exporter writes it; the file is an engine and is counted like any other."""
    path = open_onnx(tmp_path)
    model = onnx.load(path)
    images = model.graph.input[0].type.tensor_type.shape.dim
    for place in (0, 2, 3):
        images[place].dim_value = -1
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(model, path)
    twin = load_twin(path, data_shape=(3, 20, 24))
    assert twin.input_shape == (3, 20, 24)
    assert twin.module(torch.rand(5, 3, 20, 24)).shape == (5, twin.classes)
    engine = take_in(Path(path), twin, tmp_path / "artefacts")
    assert "freed_batch" not in engine.options
    assert macs(engine.path) == macs(Path(open_onnx(tmp_path)))


def test_a_pt2_of_a_free_size_takes_another(tmp_path: Path) -> None:
    assert load_twin(free_width(tmp_path)).input_shape == (3, 32, 40)
    assert load_twin(free_width(tmp_path), image_size=32).input_shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("arch", "size", "heads"),
    [
        ("resnet8", 32, ["linear.weight", "linear.bias"]),
        ("resnet18", 224, ["fc.weight", "fc.bias"]),
        ("squeezenet1_1", 224, ["classifier.1.weight", "classifier.1.bias"]),
        ("mobilenetv3_small_050", 224, ["classifier.weight", "classifier.bias"]),
    ],
)
def test_an_architecture_knows_its_input_size_and_its_head(arch: str, size: int, heads: list[str]) -> None:
    assert image_size_of(arch) == size
    assert head_keys(arch) == heads


def test_loading_says_nothing_on_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_twin(saved(tmp_path), arch="resnet8")
    assert capfd.readouterr() == ("", "")


class Returns(nn.Module):
    """Applies a function to the logits of a linear layer over the pixels' means."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.head, self.function = nn.Linear(3, 5), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.head(x.mean((2, 3))))


class InPlace(Returns):
    """Scales the caller's own images."""

    def __init__(self) -> None:
        super().__init__(lambda z: z)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x.mul_(2))


class Counts(Returns):
    """Answers a little otherwise each time: by its ten thousandth answer everything is of the first class."""

    def __init__(self) -> None:
        super().__init__(lambda z: z)
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        self.asked += 1
        return super().forward(x) + 1e-7 * self.asked


BAD_NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "softmax": (lambda: Returns(lambda z: z.softmax(1)), "returns probabilities .* Remove the softmax"),
    "a map": (
        lambda: Returns(lambda z: z[:, :, None, None]),
        r"returns float32 \(3, 5, 1, 1\) for 3 images; expected logits \(3, classes\)\. Flatten them at its end",
    ),
    "one logit": (lambda: Returns(lambda z: z[:, :1]), r"returns float32 \(3, 1\) .*at least two classes.*torch\.cat\(\[0 \* z, z\], 1\)"),
    "one number": (lambda: Returns(lambda z: z[:, 0]), r"returns float32 \(3,\) .*at least two classes.*torch\.cat"),
    "doubles": (lambda: Returns(lambda z: z.double()), r"returns float64 \(3, 5\) .*return logits\.float\(\)"),
    "integers": (lambda: Returns(lambda z: z.long()), "returns int64"),
    "NaN": (lambda: Returns(lambda z: z / 0 - z / 0), "NaN or infinity"),
    "a tuple": (lambda: Returns(lambda z: (z, z)), "returns tuple; expected one tensor"),
    "a fixed batch": (lambda: Returns(lambda z: z.reshape(1, -1)), r"returns float32 \(1, 15\) for 3 images; the batch is fixed"),
    "dropout on": (lambda: Returns(lambda z: nn.functional.dropout(z, 0.5, True)), "answers differently each time"),
    "input changed in place": (lambda: InPlace(), r"changes the images that it is given.*x\.clone\(\)"),
    "a counter": (Counts, "changes its own asked whenever it answers"),
    "batch statistics": (lambda: Returns(lambda z: z - z.mean(0)), "logits depend on the rest of its batch"),
    "another input": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(10, 5)),
        r"does not run on float32 images \(3, 3, 8, 8\): .*--image-size",
    ),
}


@pytest.mark.parametrize("case", BAD_NETWORKS)
def test_what_is_not_a_classifier_is_refused(case: str) -> None:
    make, message = BAD_NETWORKS[case]
    torch.manual_seed(0)
    with pytest.raises(UsageError, match=message) as caught:
        probe.probe(make().eval(), (3, 8, 8), "mine")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("end", "name"),
    [
        (lambda z: z.sigmoid(), "sigmoid"),
        (lambda z: 255 * z.softmax(1), "softmax"),
        (lambda z: nn.functional.softmax(z, 1).clamp(1e-7, 1).flatten(1), "softmax"),
        (lambda z: z.softmax(1)[:, 1:] + 1, "softmax"),
        (lambda z: z.log_softmax(1), ""),
        (lambda z: z * z.sigmoid(), ""),
    ],
)
def test_a_program_that_ends_in_probabilities_is_refused(end: Callable[[Tensor], Tensor], name: str, tmp_path: Path) -> None:
    program = torch.export.export(Returns(end).eval(), (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "mine.pt2")
    if not name:
        assert load_twin(str(tmp_path / "mine.pt2")).classes == 5
        return
    with pytest.raises(UsageError, match=rf"ends in probabilities \({name}\).*Return what goes into the {name}"):
        load_twin(str(tmp_path / "mine.pt2"))


def test_a_classifier_s_classes_are_found() -> None:
    assert probe.probe(Returns(lambda z: z).eval(), (3, 8, 8), "mine") == 5


def refused_pickle(folder: Path) -> tuple[str, dict[str, Any]]:
    (folder / "mine.pth").write_bytes(pickle.dumps({}))
    return str(folder / "mine.pth"), {}


def not_safetensors(folder: Path) -> tuple[str, dict[str, Any]]:
    (folder / "mine.safetensors").write_bytes(pickle.dumps({"a": 1}))
    return str(folder / "mine.safetensors"), {"arch": "resnet8"}


def cut_safetensors(folder: Path) -> tuple[str, dict[str, Any]]:
    path = Path(saved(folder))
    path.write_bytes(path.read_bytes()[:-100])
    return str(path), {"arch": "resnet8"}


def text_file(folder: Path) -> tuple[str, dict[str, Any]]:
    (folder / "mine.h5").write_text("x")
    return str(folder / "mine.h5"), {}


def renamed(folder: Path) -> tuple[str, dict[str, Any]]:
    return saved(folder, prefix="module."), {"arch": "resnet8"}


def nan_weights(folder: Path) -> tuple[str, dict[str, Any]]:
    broken = resnet8(7)
    with torch.no_grad():
        broken.linear.weight.fill_(torch.nan)
    return saved(folder, broken), {"arch": "resnet8"}


def sized_onnx(folder: Path) -> tuple[str, dict[str, Any]]:
    """A file that takes any number of images, all of 2x2."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["rows"]), helper.make_node("MatMul", ["rows", "w"], ["y"])],
        "sized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(torch.rand(12, 4).numpy(), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), folder / "mine.onnx")
    return str(folder / "mine.onnx"), {}


def fixed_onnx(folder: Path) -> tuple[str, dict[str, Any]]:
    """A file with a token stored for a batch of one, as of a vision transformer."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "shape"], ["rows"]),
            helper.make_node("Concat", ["token", "rows"], ["all"], axis=1),
            helper.make_node("MatMul", ["all", "w"], ["y"]),
        ],
        "fixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [
            numpy_helper.from_array(torch.tensor([1, 12]).numpy(), "shape"),
            numpy_helper.from_array(torch.rand(1, 2).numpy(), "token"),
            numpy_helper.from_array(torch.rand(14, 4).numpy(), "w"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), folder / "mine.onnx")
    return str(folder / "mine.onnx"), {}


def fixed_pt2(folder: Path, batch: int = 1) -> tuple[str, dict[str, Any]]:
    class Fixed(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).reshape(batch, 7)

    torch.export.save(torch.export.export(Fixed(network()).eval(), (torch.rand(batch, 3, 32, 32),)), folder / "mine.pt2")
    return str(folder / "mine.pt2"), {}


def free_width(folder: Path) -> str:
    dynamic = ({0: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    torch.export.save(torch.export.export(pooled, (torch.rand(2, 3, 32, 40),), dynamic_shapes=dynamic), folder / "free.pt2")
    return str(folder / "free.pt2")


def open_onnx(folder: Path) -> str:
    model = export_onnx(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5)).eval(), (3, 8, 8))
    for i, axis in ((2, "h"), (3, "w")):
        model.graph.input[0].type.tensor_type.shape.dim[i].dim_param = axis
    onnx.save(model, folder / "open.onnx")
    return str(folder / "open.onnx")


def given(**options: Any) -> Callable[[Path], tuple[str, dict[str, Any]]]:
    return lambda folder: (saved(folder), {"arch": "resnet8", **options})


BAD: dict[str, tuple[Callable[[Path], tuple[str, dict[str, Any]]], str]] = {
    "unknown name": (
        lambda folder: ("litle", {}),
        r"unknown model 'litle'\. Did you mean little\? Zoo: little\. Files: \.safetensors, \.pt2, \.onnx",
    ),
    "a name too long for a file": (lambda folder: ("a" * 5000, {}), "cannot read model 'aaa.*': File name too long"),
    "missing file": (lambda folder: (str(folder / "none.onnx"), {}), r"there is no file .*none\.onnx\. /.* holds no model\."),
    "missing file beside others": (lambda folder: (saved(folder) and str(folder / "none.onnx"), {}), r"holds .*\.safetensors"),
    "a file's name misspelt": (lambda folder: (saved(folder).replace(".safe", "s.safe"), {}), r"Did you mean /.*\.safetensors\?"),
    "missing folder": (lambda folder: (str(folder / "nowhere" / "net.pt2"), {}), r"There is no folder /.*nowhere either"),
    "a pickle": (refused_pickle, r"pickles run code when loaded: refused\. Convert .*safetensors\.torch\.save_file"),
    "another kind": (text_file, "of no known kind"),
    "a folder": (lambda folder: (str(folder), {}), "of no known kind"),
    "a folder named onnx": (lambda folder: (str((folder / "a.onnx").mkdir() or folder / "a.onnx"), {}), r"a\.onnx"),
    "not safetensors": (not_safetensors, "not a readable safetensors file"),
    "cut safetensors": (cut_safetensors, "not a readable safetensors file"),
    "no arch": (given(arch=None), "name their architecture with --arch"),
    "unknown arch": (given(arch="resnet19"), r"unknown architecture 'resnet19'\. Did you mean resnet18"),
    "wrong arch": (
        given(arch="resnet18x16"),
        r"do not fit --arch resnet18x16: \d+ missing \(.*…\); \d+ unexpected \(stages\.\d.*\); \d+ of another shape|do not fit",
    ),
    "a wrapper's keys": (renamed, r"\d+ missing .*\d+ unexpected \(module\..*behind 'module\.'.*Convert them: "),
    "other classes": (given(classes=10), "has 7 classes, not 10"),
    "damaged weights": (nan_weights, "NaN or infinity"),
    "normalisation": (given(normalize="imagnet"), "--normalize 'imagnet' is not known. Choices: imagenet, cifar10, MEAN/STD"),
    "arch of a zoo network": (lambda folder: ("little", {"arch": "resnet8"}), "--arch is for files"),
    "arch of a pt2": (lambda folder: (as_pt2(folder)[0], {"arch": "resnet8"}), r"--arch resnet8 is for \.safetensors"),
    "a fixed batch of an onnx": (fixed_onnx, r"takes batches of 1 alone, and this is part of its graph .*: torch\.onnx\.export\("),
    "a fixed batch of a pt2": (fixed_pt2, r"not on 3; the batch is fixed .*: torch\.export\.export\("),
    "a fixed batch of two of a pt2": (partial(fixed_pt2, batch=2), r"for 2 images alone\..*: torch\.export\.export\("),
    "another size of a pt2": (lambda folder: (as_pt2(folder)[0], {"image_size": 48}), "takes images of 32x32, not --image-size 48"),
    "another height of a pt2": (lambda folder: (free_width(folder), {"image_size": 48}), "takes images of 32xany, not --image-size 48"),
    "no size": (given(image_size=0), "--image-size 0: expected 1 to 4096 pixels"),
    "a negative size": (given(image_size=-32), "--image-size -32: expected"),
    "a huge size": (given(image_size=10**9), "--image-size 1000000000: expected"),
    "a negative size of a zoo network": (lambda folder: ("little", {"image_size": -1}), "--image-size -1: expected"),
    "grey images": (given(data_shape=(1, 28, 28)), r"the images have 1 channel\(s\), resnet8 takes 3\. .*numpy\.repeat"),
    "grey images for a named size": (given(data_shape=(1, 28, 28), image_size=28), r"the images have 1 channel\(s\)"),
    "another size of an onnx": (lambda folder: (sized_onnx(folder)[0], {"image_size": 9}), "takes images of 2x2, not --image-size 9"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_model_is_one_clear_line(case: str, tmp_path: Path, shipped: dict[str, Any]) -> None:
    make, message = BAD[case]
    model, options = make(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        load_twin(model, **options)
    assert "\n" not in str(caught.value)


def test_wrong_weights_are_listed_and_counted(tmp_path: Path) -> None:
    state = network().state_dict()
    del state["conv1.weight"], state["linear.bias"]
    state["extra"] = torch.zeros(1)
    state["bn1.weight"] = torch.zeros(3)
    save_file(state, tmp_path / "mine.safetensors")
    message = (
        r"2 missing \(conv1\.weight, linear\.bias\); 1 unexpected \(extra\); 1 of another shape \(bn1\.weight \(3,\) instead of \(16,\)\)"
    )
    with pytest.raises(UsageError, match=message):
        load_twin(str(tmp_path / "mine.safetensors"), arch="resnet8")


def test_step_counters_may_be_absent(tmp_path: Path) -> None:
    state = {key: value for key, value in network().state_dict().items() if not key.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "mine.safetensors")
    assert load_twin(str(tmp_path / "mine.safetensors"), arch="resnet8").classes == 7


@pytest.mark.parametrize(
    ("text", "channels", "expected"),
    [
        ("cifar10", 3, ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))),
        ("0.5/0.25", 3, ((0.5,) * 3, (0.25,) * 3)),
        ("0.1307/0.3081", 1, ((0.1307,), (0.3081,))),
        ("0.5, 0.4, .3 / 1,2,0.5", 3, ((0.5, 0.4, 0.3), (1.0, 2.0, 0.5))),
    ],
)
def test_normalisations_are_read(text: str, channels: int, expected: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    assert parse_normalisation(text, channels) == expected


@pytest.mark.parametrize("text", ["", "0.5", "0.5/0", "a/b", "0.5,0.5/0.2,0.2", "imagenet/2", "-1/1", "nan/1", "123.7,116.3,103.5/58.4"])
def test_other_normalisations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--normalize"):
        parse_normalisation(text, 3)
