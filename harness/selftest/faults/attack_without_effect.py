"""The attack's steps are a thousandth of what they should be: it does less than noise."""

from harness.attacks.search import Search
from harness.attacks.table import Attack

CAUGHT_BY = "noise floor"
ATTACK = Attack("tiny-steps", "selftest", "Linf", 20, "eps/4000", "PGD with tiny steps", f"{__name__}:attack_once")


def attack_once(search: Search, *, steps: int) -> None:
    """The clean image, moved by nothing that a byte would show."""
    for _ in range(steps):
        search.ask(search.images + search.eps / 4000)
