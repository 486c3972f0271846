"""Names are checked before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.attacks.table import ALIASES, ATTACKS, resolve
from harness.errors import UsageError


def test_names_can_be_checked_without_torch() -> None:
    heavy = "{'torch', 'foolbox', 'pyautoattack'}"
    code = f"import sys; from harness.attacks.table import resolve; resolve('pgd'); assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_entry_can_be_imported(name: str) -> None:
    assert ATTACKS[name].name == name
    assert callable(ATTACKS[name].function)


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_the_papers_names(alias: str, name: str) -> None:
    assert resolve(alias) is ATTACKS[name]
    assert resolve("FB_pgd_at") is not ATTACKS["pgd"]


def test_steps_in_the_name() -> None:
    hundred = resolve("apgd-ce-100")
    assert (hundred.name, hundred.steps) == ("apgd-ce-100", 100)
    assert resolve("AA_apgd-ce-100") == hundred
    assert resolve("apgd-ce-50") is ATTACKS["apgd-ce"]


@pytest.mark.parametrize("name", ["pdg", "apgd_ce", "fgsm-3", "pgd-0", "pgd-", "-5", "", "pgd-1e3", "pgd-40-40"])
def test_an_unknown_name_gets_the_choices(name: str) -> None:
    with pytest.raises(UsageError, match="unknown attack") as caught:
        resolve(name)
    assert "apgd-ce" in str(caught.value)
    if name == "pdg":
        assert "Did you mean pgd" in str(caught.value)
