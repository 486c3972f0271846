"""What PyTorch's two ONNX exporters write of ordinary layers is read back as that layer: values, gradients, and through our exporter."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.onnx import export_onnx
from export.quiet import quiet
from export.session import open_session
from harness.models.onnx_graph import OnnxGraph

pytestmark = pytest.mark.slow(65)

Form = Callable[[Tensor], Tensor]
C = 8  # channels; features are (n, 8, 16, 16)
ALWAYS, NEVER = 9, 99


def _into_a_slice(f: Tensor) -> Tensor:
    whole = f.clone()
    whole[:, 2:4, ::2] = f[:, :2, 1::2]
    return whole


# Layer -> (form, first operator set for which the TorchScript exporter writes it).
FORMS: dict[str, tuple[Form, int]] = {
    "interpolate to a size": (lambda f: F.interpolate(f, size=(6, 10), mode="bilinear"), 11),
    "interpolate, nearest": (lambda f: F.interpolate(f, size=(8, 8), mode="nearest"), 11),
    "interpolate by a scale": (lambda f: F.interpolate(f, scale_factor=2, mode="bilinear", align_corners=True), 11),
    "interpolate by a fraction": (lambda f: F.interpolate(f, scale_factor=1.3, mode="bilinear", recompute_scale_factor=True), 11),
    "interpolate, bicubic": (lambda f: F.interpolate(f, scale_factor=2, mode="bicubic"), 11),
    "interpolate like": (lambda f: F.interpolate(F.avg_pool2d(f, 2), size=f.shape[2:], mode="bilinear"), 11),
    "upsample": (lambda f: F.interpolate(f, scale_factor=2.0, mode="nearest"), ALWAYS),
    "adaptive pool": (lambda f: F.adaptive_avg_pool2d(f, (2, 2)), ALWAYS),
    "adaptive max pool": (lambda f: F.adaptive_max_pool2d(f, 1), ALWAYS),
    "adaptive pool of odd size": (lambda f: F.adaptive_avg_pool2d(f, (3, 3)), NEVER),
    "max pool with pads": (lambda f: F.max_pool2d(f, 3, 2, 1), ALWAYS),
    "max pool, ceil": (lambda f: F.max_pool2d(f, 3, 2, ceil_mode=True), 10),
    "average pool, ceil": (lambda f: F.avg_pool2d(f, 3, 2, padding=1, ceil_mode=True, count_include_pad=True), 10),
    "relu6": (F.relu6, ALWAYS),
    "clamp below": (lambda f: f.clamp(min=1e-6), ALWAYS),
    "clamp above": (lambda f: f.clamp(max=0.1), ALWAYS),
    "clamp": (lambda f: f.clamp(-0.1, 0.1), ALWAYS),
    "hardswish": (F.hardswish, ALWAYS),
    "hardswish in parts": (lambda f: f * F.relu6(f + 3) / 6, ALWAYS),
    "hardsigmoid": (F.hardsigmoid, ALWAYS),
    "silu": (F.silu, ALWAYS),
    "gelu": (F.gelu, ALWAYS),
    "prelu": (lambda f: F.prelu(f - 0.1, torch.full((C,), 0.2)), ALWAYS),
    "normalize": (lambda f: F.normalize(F.relu(f), dim=1), ALWAYS),
    "GeM": (lambda f: F.avg_pool2d(f.clamp(min=1e-6).pow(3.0), 4).pow(1 / 3.0), ALWAYS),
    "einsum": (lambda f: torch.einsum("nchw,ck->nkhw", f, torch.ones(C, 4)), 12),
    "channel shuffle": (lambda f: f.view(f.shape[0], 2, C // 2, *f.shape[2:]).transpose(1, 2).reshape(f.shape[0], C, *f.shape[2:]), ALWAYS),
    "pixel shuffle": (lambda f: F.pixel_unshuffle(F.pixel_shuffle(f, 2), 4), ALWAYS),
    "pad by reflection": (lambda f: F.pad(f, (1, 2, 2, 1), mode="reflect"), ALWAYS),
    "pad all round": (lambda f: F.pad(f, (1, 2, 2, 1), mode="circular"), ALWAYS),
    "pad by a value": (lambda f: F.pad(f, (1, 1, 1, 1), value=0.5), ALWAYS),
    "group norm": (lambda f: F.group_norm(f, 4), ALWAYS),
    "layer norm": (lambda f: F.layer_norm(f.permute(0, 2, 3, 1), (C,)).permute(0, 3, 1, 2), ALWAYS),
    "split": (lambda f: torch.cat([f[:, :3] * 2, f[:, 3:].flip(2)], 1), 10),
    "chunk": (lambda f: torch.chunk(f, 2, 1)[0] * torch.sigmoid(torch.chunk(f, 2, 1)[1]), ALWAYS),
    "roll": (lambda f: torch.roll(f, (1, -1), (2, 3)), ALWAYS),
    "standard deviation": (lambda f: f.std((2, 3)), ALWAYS),
    "squeeze": (lambda f: f.mean((2, 3), keepdim=True).squeeze(3).squeeze(2).unsqueeze(1), ALWAYS),
    "expand": (lambda f: f.mean((2, 3), keepdim=True).expand(-1, -1, 2, 3), ALWAYS),
    "class token": (lambda f: torch.cat([torch.ones(1, 1, C).expand(f.shape[0], -1, -1), f.flatten(2).transpose(1, 2)], 1), ALWAYS),
    "index": (lambda f: f[:, [0, 3, 1]][:, :, 1::2], 10),
    "the largest": (lambda f: torch.where(f >= f.topk(3, dim=1).values[:, -1:], f, 0.1 * f), 10),
    "places of the largest": (lambda f: f.flatten(1).gather(1, f.flatten(1).topk(5).indices), 11),
    "put at places": (lambda f: f * torch.zeros_like(f).scatter(1, f.topk(2, dim=1).indices, 1.0), 11),
    "put into a slice": (_into_a_slice, 11),
    "triangle": (lambda f: f.tril() - f.triu(2), 14),
    "unfold and fold": (lambda f: F.fold(F.unfold(f, 3, padding=1, stride=2), (16, 16), 3, padding=1, stride=2), 18),
    "where": (lambda f: torch.where(f > 0.1, f, f * 0.1), ALWAYS),
    "softmax": (lambda f: f * torch.softmax(f.flatten(2), -1).view_as(f), ALWAYS),
}


class Layers(nn.Module):
    """A convolution, every form on its features, all results side by side."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.names, self.conv = names, nn.Conv2d(3, C, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x)
        return torch.cat([FORMS[name][0](features).flatten(1) for name in self.names], 1)


EXPORTS = ("dynamo", 9, 11, 13, 17, 20)


def forms(kind: str | int) -> tuple[str, ...]:
    return tuple(name for name, (_, first) in FORMS.items() if kind == "dynamo" or first <= kind)


@cache
def exported(kind: str | int, folder: Path, names: tuple[str, ...]) -> tuple[Layers, onnx.ModelProto]:
    network, example, path = Layers(names).eval(), torch.rand(2, 3, 16, 16), folder / f"{kind}.onnx"
    with quiet():
        if kind == "dynamo":
            shapes = ({0: torch.export.Dim.DYNAMIC},)
            torch.onnx.export(network, (example,), path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False)
        else:
            axes = {"x": {0: "n"}, "y": {0: "n"}}
            torch.onnx.export(
                network, (example,), path, dynamo=False, dynamic_axes=axes, input_names=["x"], output_names=["y"], opset_version=kind
            )
    return network, onnx.load(path)


def first_written(kind: str | int, folder: Path) -> tuple[str, ...]:
    """The forms that the TorchScript exporter writes with other nodes in this operator set than in those before; for dynamo, all."""
    if kind == "dynamo":
        return forms(kind)
    before = [earlier for earlier in EXPORTS if earlier != "dynamo" and earlier < kind]
    return tuple(
        name
        for name in forms(kind)
        if nodes(kind, folder, name) not in [nodes(earlier, folder, name) for earlier in before if name in forms(earlier)]
    )


@cache
def nodes(kind: str | int, folder: Path, name: str) -> list[tuple[str, int, list[str]]]:
    """Operator, number of inputs and names of attributes of each node of a form."""
    graph = exported(kind, folder, (name,))[1].graph
    return [(node.op_type, len(node.input), [attribute.name for attribute in node.attribute]) for node in graph.node]


def by_form(network: Layers, logits: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        features = network.conv(torch.zeros(1, 3, 16, 16))
        sizes = [FORMS[name][0](features).numel() for name in network.names]
    return dict(zip(network.names, logits.split(sizes, 1), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.mark.parametrize("kind", EXPORTS)
def test_layers_come_back_with_their_values_and_gradients(kind: str | int, folder: Path) -> None:
    network, model = exported(kind, folder, forms(kind))
    graph = OnnxGraph(model).eval()
    x = torch.rand(3, 3, 16, 16).requires_grad_()
    y = x.detach().clone().requires_grad_()
    expected, found = by_form(network, network(x)), by_form(network, graph(y))
    for name in network.names:
        np.testing.assert_allclose(found[name].detach().numpy(), expected[name].detach().numpy(), atol=1e-4, rtol=1e-4, err_msg=name)
        weights = torch.linspace(-1, 1, expected[name].shape[1])
        theirs, ours = (
            torch.autograd.grad((z * weights).sum(), images, retain_graph=True)[0].numpy()
            for z, images in ((expected[name], x), (found[name], y))
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max(), err_msg=name)


@pytest.mark.parametrize("kind", EXPORTS)
def test_layers_can_be_exported_again_with_a_free_batch(kind: str | int, folder: Path) -> None:
    network, model = exported(kind, folder, first_written(kind, folder))
    again = open_session(export_onnx(OnnxGraph(model).eval(), (3, 16, 16)))
    for n in (1, 3):
        x = torch.rand(n, 3, 16, 16)
        with torch.no_grad():
            expected = by_form(network, network(x))
        found = by_form(network, torch.from_numpy(again.run(None, {"images": x.numpy()})[0]))
        for name in network.names:
            np.testing.assert_allclose(found[name].numpy(), expected[name].numpy(), atol=1e-4, rtol=1e-4, err_msg=name)
