"""The paper's figures as transcribed, and the faults computed from them: each disappears when its figure is mended."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.audit.statistics import mcnemar_p
from harness.models.architectures import build
from harness.models.wide_resnet import WideResNet
from harness.reproduce.arithmetic import faults, fewest, p_apart, p_together
from harness.reproduce.networks import command
from harness.reproduce.paper import Paper, paper, published

# Robust accuracy in percent under FB_pgd_at, APGD-CE, APGD-DLR, typed a second time.
TABLES = """
HYDRA 99x 8/8/8, HYDRA 95x 8/0/0, HYDRA 90x 4/2/0, IAD-I 52/40/36, IAD-II 48/44/42, ARD → MobileNet 44/38/32, ARD → ResNet 50/42/36,
RAP prune 12x 40/36/32, RAP prune 16x 40/34/30, RAP prune 8x 42/32/30, RAP pre 44/42/36, RAP fine 12x 42/38/32, RAP fine 16x 42/36/34,
RAP fine 8x 48/38/34, RSLAD → ResNet 46/44/4, RSLAD → MobileNetV2 46/42/36
"""


def mended(name: str, **figures: float) -> Paper:
    rows = tuple(row.model_copy(update=figures) if row.name == name else row for row in paper().row)
    return paper().model_copy(update={"row": rows})


def about(found: Paper, where: str, words: str) -> list[str]:
    return [fault.what for fault in faults(found, published()) if fault.where.startswith(where) and words in fault.what]


def test_the_figures_are_those_of_the_tables() -> None:
    expected = {}
    for entry in TABLES.replace("\n", " ").split(","):
        name, _, figures = entry.strip().rpartition(" ")
        expected[name] = tuple(map(float, figures.split("/")))
    printed = {row.name: (row.fb_pgd, row.apgd_ce, row.apgd_dlr) for row in paper().row if row.apgd_ce is not None}
    assert printed == expected
    assert (paper().named("w1a1").fb_pgd, paper().named("w1a1").cw_l2, paper().named("w1a1").gamma) == (56.0, 49.2, 32.0)
    assert {(p.system, p.network, p.robust) for p in published()} >= {("RSLAD", "ResNet-18", 51.49), ("PwoA", "ResNet-18, 99 %", 28.95)}


@pytest.mark.parametrize(
    ("where", "words", "row", "figures"),
    [
        ("RSLAD → ResNet", "a step of 40 points", "RSLAD → ResNet", {"apgd_dlr": 40.0}),
        ("RSLAD → ResNet", "51.49 %", "RSLAD → ResNet", {"apgd_dlr": 40.0}),
        ("HYDRA 99x", "38.8 %", "HYDRA 99x", {"fb_pgd": 40.0, "apgd_ce": 36.0, "apgd_dlr": 34.0}),
        ("HYDRA", "not falling with sparsity (4, 8, 8 %", "HYDRA 90x", {"fb_pgd": 44.0}),
        ("w1a1", "49.20 % is no multiple of 2 %: to 2 decimals, it and 56.00 % take at least n = 250", "w1a1", {"cw_l2": None}),
        ("FB_pgd_at, all", "at best with p = 0.031 (McNemar)", "IAD-I", {"fb_pgd": 80.0}),
        ("FB_pgd_at, all", "independent samples of 50 images (Fisher, p = 0.32)", "IAD-I", {"fb_pgd": 80.0}),
        ("P of HYDRA", "1,222,839, 611,419, 122,283 are the shares kept of 12,228,394", "HYDRA 95x", {"parameters": 611_420}),
    ],
)
def test_a_fault_is_found_and_is_gone_when_the_figure_is_mended(where: str, words: str, row: str, figures: dict[str, float]) -> None:
    assert len(about(paper(), where, words)) == 1
    assert not about(mended(row, **figures), where, words)


def test_ratios_and_labels_are_computed() -> None:
    assert about(paper(), "HYDRA", "90x is 10x, 95x is 20x, 99x is 100x")
    assert about(paper(), "tables 3 to 8", "All 48 L-inf figures are multiples of 2 %")
    assert about(paper(), "P of HYDRA", "1 % of the network would be 58,490")
    assert about(paper(), "γ of RSLAD", "3.12 and 10.7 are a teacher of 36,479,194 parameters (WRN-28-10) over ResNet-18 of 11.7 M")
    assert about(paper(), "P and γ of ResNet-18", "11 M and 3.4x in 1 of the tables (that teacher gives 3.32x)")
    assert about(paper(), "P of RAP-ADMM", "Divided, not counted") and about(paper(), "table 2", "RAP-ADMM and HYDRA")


def test_one_student_in_one_size_is_no_fault() -> None:
    once = paper().model_copy(update={"student": tuple(one for one in paper().student if one.millions != 11)})
    assert not about(once, "P and γ of ResNet-18", "")


def wide(depth: int, widen: int) -> WideResNet:
    with torch.device("meta"):
        return WideResNet(depth, widen)


def test_what_hydra_counts_is_wrn_28_4_with_an_unused_stage_and_a_score_per_weight() -> None:
    """12,228,394 to the unit, from the network itself; and the rows are its shares, rounded down."""
    network, counts = wide(28, 4), paper().hydra
    parts = [network, network.stages[0]]  # the first stage is built twice
    every, unused = (sum(p.numel() for p in part.parameters()) for part in parts)
    weights = sum(layer.weight.numel() for part in parts for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    assert (every, unused, weights) == (paper().parameters["WRN-28-4"], counts.unused, counts.scores)
    assert every + unused + weights == 12_228_394
    printed = {row.sparsity: row.parameters for row in paper().row if row.system == "HYDRA"}
    assert printed == {0.9: 12_228_394 // 10, 0.95: 12_228_394 // 20, 0.99: 12_228_394 // 100}


def test_the_teacher_that_the_ratios_fit_is_wrn_28_10() -> None:
    teacher = sum(p.numel() for p in wide(28, 10).parameters())
    assert teacher == paper().parameters["WRN-28-10"] == 36_479_194
    assert [round(teacher / 1e6 / millions, 2) for millions in (11.7, 11)] == [3.12, 3.32], "11 M does not give 3.4x"
    assert round(teacher / 3.4e6, 1) == 10.7
    assert sum(p.numel() for p in build("resnet18x64", 10).parameters()) == paper().parameters["ResNet-18"]


@pytest.mark.parametrize(
    ("figures", "decimals", "n"),
    [
        ([50.0], 0, 2),
        ([4, 8, 46], 0, 24),
        ([4, 8, 46], 1, 50),
        ([33.3], 1, 3),
        ([33.3], 2, 871),
        ([0, 100], 0, 1),
        ([49.2], 1, 59),
        ([56.0, 49.2], 1, 191),
        ([56.0, 49.2], 2, 250),
    ],
)
def test_the_fewest_images_that_give_such_figures(figures: list[float], decimals: int, n: int) -> None:
    """Fewer images give the same figures for no counts; and so many do."""

    def given(count: int) -> bool:
        return {f"{100 * k / count:.{decimals}f}" for k in range(count + 1)} >= {f"{figure:.{decimals}f}" for figure in figures}

    assert fewest(figures, decimals) == n and given(n) and not any(map(given, range(1, n)))


def test_fisher_is_unpaired_and_two_sided() -> None:
    one, other = paper().named("RAP fine 8x"), paper().named("RAP pre")
    assert p_apart(one, other, paper()) == p_apart(other, one, paper()) == pytest.approx(0.8412, abs=1e-3)
    assert p_apart(paper().named("IAD-I"), paper().named("HYDRA 90x"), paper()) < 1e-6


@pytest.mark.parametrize("difference", range(8))
def test_no_arrangement_of_the_same_images_has_a_smaller_p(difference: int) -> None:
    """McNemar's p of every number of images that go the other way, against the least."""
    rows = [paper().named("IAD-I").model_copy(update={"fb_pgd": 40.0 + 2 * more}) for more in (difference, 0)]
    least = p_together(rows[0], rows[1], paper())
    assert least == pytest.approx(min(mcnemar_p(difference + back, back) for back in range(50)))
    assert p_together(paper().named("w1a1"), rows[0], paper()) is None


def test_every_missing_row_has_a_command_that_the_harness_accepts() -> None:
    """Each command's words go through a sweep's checks, which are those of `harness compress`."""
    from harness.compression.request import Request, check

    for row in paper().row:
        words = command(row.ours, paper()).split()
        if row.ours.method is None:
            assert words[:2] == ["harness", "train"]
            continue
        options = dict(zip(words[3::2], words[4::2], strict=True))
        assert options.pop("--out").endswith(".safetensors")
        request = Request(model=words[2], **{name.removeprefix("--").replace("-", "_"): value for name, value in options.items()})
        check(request)
