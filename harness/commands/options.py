"""Options that several commands share, with their help: one type each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[str, typer.Option(help="zoo name, or FILE.safetensors (with --arch), FILE.pt2, FILE.onnx")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="zoo name, or FILE.safetensors (with --arch), FILE.pt2, FILE.onnx")]
Arch = Annotated[
    str | None,
    typer.Option(help="architecture of a safetensors file without a card: a zoo, torchvision or timm name, such as timm/resnet18"),
]
Normalize = Annotated[str | None, typer.Option(help="what the network expects its input scaled by: imagenet, cifar10 or MEAN/STD")]
ImageSize = Annotated[int | None, typer.Option(help="height and width of the input, where neither model nor data fix it")]
Classes = Annotated[int | None, typer.Option(help="number of classes, where the weights do not say it")]
Data = Annotated[str, typer.Option(help="cifar10-sample, cifar10, FILE.npz (images, labels) or an image folder")]
Device = Annotated[str, typer.Option(help="a device profile (harness devices list)")]
Devices = Annotated[list[str] | None, typer.Option("--device", help="a device profile (harness devices list), repeatable [default: host]")]
Fleet = Annotated[Path | None, typer.Option(help="several devices in a TOML file: tables [[device]] with name, host, emulate, threads")]
Emulate = Annotated[bool, typer.Option("--emulate", help="emulate its CPU here (QEMU), simulate trt-*: numerics only, no latency")]
Host = Annotated[
    str | None, typer.Option(help="USER@ADDR or ssh alias of the device [default: the profile's alias, else the device's name]")
]
Flavours = Annotated[
    list[str] | None, typer.Option("--flavour", help="deployable form, repeatable [default: the device's, on a CPU onnx-fp32, ort-int8]")
]
EngineFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--engine",
        help="your own engine of the model, run as it is beside onnx-fp32 or the flavours given: FILE.onnx, quantized or not; "
        "a TensorRT plan (.plan, .engine, .trt) or an ExecuTorch program (.pte), which run where --device has that runtime",
    ),
]
Attacks = Annotated[
    list[str] | None, typer.Option("--attack", help="attack, repeatable [default: pgd, apgd-ce, apgd-dlr; beyond tier quick apgd-t too]")
]
Calibration = Annotated[str, typer.Option(help="INT8 calibration: minmax, entropy or percentile")]
Tier = Annotated[
    str, typer.Option(help="how much to spend: quick (n=256), bench (n=1,000) or qualify (60 s per measurement, three builds, three seeds)")
]
Eps = Annotated[str | None, typer.Option(help="L-inf radius such as 8/255 [default: the model card's claim, else 8/255]")]
Margin = Annotated[
    str | None, typer.Option(help="robust accuracy that an engine may lose, such as 2pt [default: 5pt in tier quick, else 2pt]")
]
Scenario = Annotated[str | None, typer.Option(help="MLPerf LoadGen drives the engines too: SingleStream or Offline [default: it does not]")]
Threads = Annotated[int | None, typer.Option(help="threads of the runtime [default: all the device has]")]
Batches = Annotated[list[int] | None, typer.Option("--batch", help="batch size to time, repeatable [default: 1, 8, 32]")]
Executor = Annotated[Literal["local", "ray"], typer.Option(help="who makes the adversarial sets: this process, or a Ray cluster")]
Address = Annotated[str | None, typer.Option(help="of the Ray cluster's head, or auto [default: one on this machine]")]
Out = Annotated[Path | None, typer.Option(help="run folder, new or empty [default: runs/TIME-MODEL-DEVICE]")]
GoOn = Annotated[bool, typer.Option("--resume", help="go on from the last finished epoch, or refuse; by default: go on, or start")]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", help="import package.module, which adds to the tables of attacks, sources, methods, …; repeatable"),
]
Seed = Annotated[int, typer.Option(help="seed of everything random")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON alone on standard output")]


def each(names: list[str] | None) -> tuple[str, ...] | None:
    """The names of a repeatable option, which may stand in one word too, with commas; a command or a path stays whole."""
    if names is None:
        return None
    words = ([name] if name.startswith(("exec:", "file:")) else name.split(",") for name in names)
    return tuple(word.strip() for several in words for word in several)
