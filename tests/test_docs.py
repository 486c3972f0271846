"""The examples of docs/ are accepted, and its tables hold every method and constant."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.compression.recipe import load_recipe
from harness.compression.table import METHODS
from harness.models.load import load_twin
from harness.models.packed import unpack
from harness.models.shipped import weights_file
from harness.sweep.spec import TABLES, Spec, load_spec

PAGE = (Path(__file__).parents[1] / "docs" / "recipes-and-sweeps.md").read_text()
EXAMPLES = {told.split()[0]: (told.split()[1:], text) for told, text in re.findall(r"```toml (.*?)\n(.*?)```", PAGE, re.S)}


def test_the_recipe_is_one(tmp_path: Path) -> None:
    (method, *stages), text = EXAMPLES["recipe"]
    (tmp_path / "r.toml").write_text(text)
    assert list(load_recipe(str(tmp_path / "r.toml"), method, METHODS[method].stages, 0, METHODS[method].constants).stages) == stages


def test_the_sweep_is_one_and_shows_every_key_that_is_no_bench_option(tmp_path: Path) -> None:
    _, text = EXAMPLES["sweep"]
    (tmp_path / "s.toml").write_text(text)
    spec = load_spec(tmp_path / "s.toml")
    assert [model.model for model in spec.models] == ["resnet18x16-at", "my.safetensors"]
    for name in (*Spec.model_fields, *(key for table, kind in TABLES.items() if table != "bench" for key in kind.model_fields)):
        assert name == "name" or re.search(rf"\b{name}\b", text), name


@pytest.mark.parametrize("method", METHODS)
def test_the_table_names_the_stages_and_constants_of_every_method(method: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith("|") and f"`{method}`" in line.split("|")[1])
    _, _, stages, constants, _ = row.split("|")
    assert tuple(re.findall(r"`(\w+)`", stages)) == METHODS[method].stages
    assert tuple(re.findall(r"`(\w+)`", constants)) == METHODS[method].constants


def test_packed_weights_unpack_as_the_page_says() -> None:
    weights = unpack(load_file(weights_file("resnet18x16-at-nm24")))
    plain = load_twin("resnet18x16-at-nm24").module.state_dict()
    for name, tensor in weights.items():
        np.testing.assert_array_equal(tensor, plain.get(name, torch.nan), err_msg=name)


def test_the_transfer_study_is_that_of_its_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What every image came to is committed, so nobody need believe the page."""
    root = Path(__file__).parents[1]
    monkeypatch.syspath_prepend(str(root / "tests" / "benchmarks"))
    study = import_module("transfer_study")
    words = ["--model", "--samples", "1000", "--tier", "quick", "--rows", str(root / study.ROWS)]
    monkeypatch.setattr(sys, "argv", ["transfer_study.py", *words])
    study.main()
    assert capsys.readouterr().out == (root / "docs" / "transfer-study.md").read_text() + "\n"
