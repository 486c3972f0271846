"""The workflow that docs/ci.md offers: every `harness` line in it is one that the program accepts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from harness.cli import app
from reports.render import FORMATS

DOCS = Path(__file__).parents[1] / "docs"
STEPS = yaml.safe_load((DOCS / "examples/github-actions.yml").read_text())["jobs"]["qualify"]["steps"]
LINES = [line.strip() for step in STEPS for line in step.get("run", "").splitlines() if line.strip().startswith("harness ")]


@pytest.mark.parametrize("line", LINES)
def test_its_commands_have_these_options(line):
    words = line.split(">")[0].replace('"', "").split()
    command = get_command(app).commands[words[1]]
    context = command.make_context(words[1], words[2:], resilient_parsing=True)
    assert not context.args
    assert {word for word in words if word.startswith("--")} <= {name for parameter in command.params for name in parameter.opts}


def test_it_has_commands_at_all():
    assert {line.split()[1] for line in LINES} == {"lint", "bench", "compare", "report"}


def test_the_page_and_the_help_name_every_format():
    named = set(
        re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in (DOCS / "ci.md").read_text().splitlines() if line.startswith("| `")))
    )
    assert named == set(FORMATS)
    (option,) = (p for p in get_command(app).commands["report"].params if p.name == "format")
    assert all(re.search(rf"\b{name}\b", option.help) for name in FORMATS)
