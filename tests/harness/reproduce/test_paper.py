"""The paper's figures as transcribed, and the faults computed from them: each disappears when its figure is mended."""

from __future__ import annotations

import pytest

from harness.reproduce.arithmetic import faults, fewest, fisher
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
    assert (paper().named("w1a1").fb_pgd, paper().named("w1a1").cw_l2) == (56.0, 49.2)
    assert {(p.system, p.network, p.robust) for p in published()} >= {("RSLAD", "ResNet-18", 51.49), ("PwoA", "ResNet-18, 99 %", 28.95)}


@pytest.mark.parametrize(
    ("where", "words", "row", "figures"),
    [
        ("RSLAD → ResNet", "a step of 40 points", "RSLAD → ResNet", {"apgd_dlr": 40.0}),
        ("RSLAD → ResNet", "51.49 %", "RSLAD → ResNet", {"apgd_dlr": 40.0}),
        ("HYDRA 99x", "38.8 %", "HYDRA 99x", {"fb_pgd": 40.0, "apgd_ce": 36.0, "apgd_dlr": 34.0}),
        ("HYDRA", "not falling with sparsity (4, 8, 8 %", "HYDRA 90x", {"fb_pgd": 44.0}),
        ("w1a1", "49.2 % is no multiple of 2 %", "w1a1", {"cw_l2": None}),
        ("FB_pgd_at, all", "no ranking among these 13 rows", "IAD-I", {"fb_pgd": 80.0}),
    ],
)
def test_a_fault_is_found_and_is_gone_when_the_figure_is_mended(where: str, words: str, row: str, figures: dict[str, float]) -> None:
    assert len(about(paper(), where, words)) == 1
    assert not about(mended(row, **figures), where, words)


def test_ratios_and_labels_are_computed() -> None:
    assert about(paper(), "HYDRA", "90x is 10x, 95x is 20x, 99x is 100x")
    assert about(paper(), "γ of RSLAD", "ResNet-18 4.1, MobileNetV2 20.1")
    assert about(paper(), "tables 3 to 8", "All 48 L-inf figures are multiples of 2 %")


@pytest.mark.parametrize(("figures", "n"), [([50.0], 2), ([4, 8, 46], 50), ([33.3], 3), ([0, 100], 1), ([49.2], 59)])
def test_the_fewest_images_that_give_such_figures(figures: list[float], n: int) -> None:
    assert fewest(figures) == n


def test_fisher_is_unpaired_and_two_sided() -> None:
    assert fisher(48, 44, 50) == fisher(44, 48, 50) == pytest.approx(0.8412, abs=1e-3)
    assert fisher(90, 10, 50) < 1e-9


def test_every_missing_row_has_a_command_that_the_harness_accepts() -> None:
    """Each command's words go through a sweep's checks, which are those of `harness compress`."""
    from harness.compression.compress import Request, check

    for row in paper().row:
        words = command(row.ours, paper()).split()
        if row.ours.method is None:
            assert words[:2] == ["harness", "train"]
            continue
        options = dict(zip(words[3::2], words[4::2], strict=True))
        assert options.pop("--out").endswith(".safetensors")
        request = Request(model=words[2], **{name.removeprefix("--").replace("-", "_"): value for name, value in options.items()})
        check(request)
