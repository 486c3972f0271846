"""The checks, in the order of the report. A new one is a file and a line here."""

from __future__ import annotations

from harness.validate import differential, int8, one_bit, paper, precisions, saturation, tiny
from harness.validate.check import Check

CHECKS: dict[str, Check] = {
    module.CHECK.name: module.CHECK for module in (saturation, one_bit, precisions, int8, differential, tiny, paper)
}
