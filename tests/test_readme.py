"""What the README and the pages beside it tell people to type works."""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from commandline import harness
from PIL import Image
from safetensors.torch import save_file

from devices.host.saturation import saturates
from devices.worker.environment import describe_machine

pytestmark = pytest.mark.slow(150)

ROOT = Path(__file__).parents[1]
# Their commands run here, in this order; those of the other pages have tests of their own.
PAGES = ("README.md", "docs/commands.md", "docs/devices.md", "docs/boards.md", "docs/tensorrt.md")
TEXTS = {path: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
LINES = [
    line.split("   #")[0].strip()
    for page in PAGES
    for block in re.findall(r"^ *```sh\n(.*?)```", TEXTS[ROOT / page], re.S | re.M)
    for line in block.splitlines()
]
COMMANDS = [line for line in LINES if line.startswith("harness ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the README's examples call `my.*` and `images/`; the networks are untrained, their answers do not matter here."""
    place = tmp_path_factory.mktemp("readme")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    save_file(torchvision.models.mobilenet_v3_small(num_classes=3).state_dict(), place / "my.safetensors")
    for name in ("cat", "dog", "owl"):
        (place / "images" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (230, 250, 3), dtype=np.uint8)).save(place / "images" / name / f"{i}.png")
    np.savez(place / "my.npz", images=rng.integers(0, 256, (130, 32, 32, 3), dtype=np.uint8), labels=np.arange(130) % 4)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 4)
    ).eval()
    example, batch = torch.rand(2, 3, 32, 32), {0: torch.export.Dim("batch")}
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=(batch,)), place / "my.pt2")
    torch.onnx.export(network, (example,), place / "my.onnx", dynamo=True, dynamic_shapes=(batch,), external_data=False, verbose=False)
    return place


def test_the_first_commands_are_make_bench_and_make_test() -> None:
    assert LINES[:2] == ["make bench", "make test"]
    done = subprocess.run(["make", "-n", "bench", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "harness bench" in done.stdout
    assert "pytest" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_runs(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)[1:]
    if words[0] == "bench" and "--samples" not in words:
        words += ["--samples", "4", "--attack", "fgsm"]  # the same path, in seconds
    if words[0] == "bench":
        words += ["--batch", "1", "--source", "S1"]
    if words[0] == "bench" and ("--model" not in words or words.count("--device") > 1):
        words += ["--model", "my.pt2", "--data", "my.npz"]  # shipped networks are benched by other commands
    if "--arch" in words:
        words += ["--flavour", "onnx-fp32"]  # `make classifiers` takes such networks as far as INT8
    if words[0] == "selftest":
        del words[-2:]  # the second deployment: the selftest's own tests run it by the same command
    if words[0] == "attack":
        words[words.index("--samples") + 1] = "4"
    if words[0] in ("bench", "profile") and "--device" not in words:
        words += ["--device", "null"]
    monkeypatch.chdir(folder)
    code, said = harness(*words), capsys.readouterr()
    saturated = words[0] == "profile" and saturates(describe_machine()["isa_flags"])  # INT8 is another network on this CPU, and says so
    assert code == (3 if words[0] == "bench" or saturated else 0), said.err  # of untrained networks and few images: nothing is decided
    assert not saturated or "gate 'saturation'" in "".join(path.read_text() for path in folder.glob("runs/*resnet8-null/report.md"))
    assert "Traceback" not in said.err


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    for path in re.findall(r"\]\((?!https?:)([\w./-]+)(?:#[\w-]+)?\)", TEXTS[page]):
        assert (page.parent / path).exists(), path
    for path in re.findall(r"\bharness/training/recipes/[\w.-]+\.toml", TEXTS[page]):
        assert (ROOT / path).exists(), path


def test_every_page_is_reached_from_the_readme() -> None:
    """A page that nobody links is not read."""
    linked = {(page.parent / path).resolve() for page, text in TEXTS.items() for path in re.findall(r"\]\(([\w./-]+\.md)", text)}
    assert {page for page in TEXTS if page.name != "README.md"} <= linked
