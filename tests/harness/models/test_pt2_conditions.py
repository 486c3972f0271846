"""A branch of Python on an image's size is not in a saved program: an image size that would take the other one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UsageError
from harness.models.load import load_twin
from harness.models.pt2_conditions import Conditions, conditions


class Branches(nn.Module):
    """Another network for images above 16 pixels, and for heights that four does not divide."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.shape[3] > 16:
            x = F.avg_pool2d(x, 2)
        if x.shape[2] % 4 == 0:
            x = x * 2
        return self.head(F.relu(x).mean((2, 3)))


def test_an_image_size_of_the_other_branch_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, free = Branches().eval(), torch.export.Dim.DYNAMIC
    program = torch.export.export(network, (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: free, 2: free, 3: free},))
    path = tmp_path / "branches.pt2"
    torch.export.save(program, path)
    for size in (None, 8, 16):
        x = torch.rand(3, 3, size or 8, size or 8)
        assert torch.equal(load_twin(str(path), image_size=size).module(x), network(x))
    for size, why in ((32, "a width of 2 to 16"), (10, r"\(L\['x'\]\.size\(\)\[2\] % 4\) == 0")):
        with pytest.raises(UsageError, match=rf"saved from images of 8x8, and --image-size {size} breaks .*: {why}\. Export it"):
            load_twin(str(path), image_size=size)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("L['x'].size()[2] <= 12", True),
        ("L['x'].size()[2] < 12", False),
        ("4 <= L['x'].size()[2] <= 12 and not L['x'].size()[3] == 1", True),
        ("L['x'].size()[2] == L['x'].size()[3]", False),
        ("(L['x'].size()[2] - 2*L['x'].size()[3]) // -2 == 4", True),
        ("L['x'].size()[0] % 7 == 0", True),  # of the batch alone
        ("L['x'].size()[2] % 0 == 0", False),
        ("L['x'].size()[2] ** 999999999 > 0", False),
        ("__import__('os').system('true') or L['x'].size()[2] == 12", False),
        ("(" * 400 + "L['x'].size()[2] > 0" + ")" * 400, False),
        ("L['x'].size()[2] > 0" + " " * 10**6, False),
    ],
)
def test_conditions_are_arithmetic_of_sizes(text: str, held: bool) -> None:
    assert Conditions((text,), {}).broken_by(3, 12, 10) == ("" if held else text)


def test_bounds_that_are_no_numbers_are_damage() -> None:
    size = {"as_expr": {"expr_str": "Symbol('s7', positive=True, integer=True)", "hint": {"as_int": 8}}}
    with pytest.raises(ValueError, match="a size of two to None"):
        conditions({"range_constraints": {"s7": {"min_val": "two", "max_val": None}}}, [{"as_int": 2}, {"as_int": 3}, size, size])
