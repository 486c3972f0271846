"""Weights that do not fit as they are named: what was done to them, and the line that undoes it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

LOAD = "w = safetensors.torch.load_file('FILE')"
SAVE = "safetensors.torch.save_file(w, 'NEW')"
ORIGINAL, MASK = "_orig", "_mask"  # of torch.nn.utils.prune
UNREAD = "num_batches_tracked"  # which inference never reads
OLD_DENSENET = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.")  # PyTorch before 0.4: norm.1 for norm1


def remedy(expected: Iterable[str], found: Iterable[str]) -> str:
    """One line to convert the weights, with a space before it; empty where no conversion that is known makes the names fit.

    Args:
        expected: names of the architecture's weights.
        found: names in the file.
    """
    found = list(found)
    needed = {key for key in expected if not key.endswith(UNREAD)}
    bare, steps = set(found), []
    if masked := {key.removesuffix(MASK) for key in bare if key.endswith(MASK)} & {key.removesuffix(ORIGINAL) for key in bare}:
        bare = {key.removesuffix(ORIGINAL) for key in bare if key.removesuffix(MASK) not in masked}
        steps.append("w |= {k[:-5]: w.pop(k) * w.pop(k[:-5] + '_mask') for k in [*w] if k.endswith('_orig')}")
    if any(OLD_DENSENET.search(key) for key in bare):
        bare = {OLD_DENSENET.sub(r"\1\2.", key) for key in bare}
        steps.append(r"w = {re.sub(r'(norm|conv)\.([12])\.', r'\1\2.', k): v for k, v in w.items()}")
    prefixes = [prefix for prefix in _prefixes(needed, bare) if all(f"{prefix}{key}" in bare for key in needed)]
    prefixes.sort(key=lambda prefix: not prefix)  # of two sets that fit, the one without a prefix is not told apart by any
    if not prefixes or (prefixes == [""] and not steps):
        return ""
    words = []
    if masked:
        words.append("Pruning masks are still apart from their weights.")
    if prefixes[0]:
        words.append(f"The weights that fit stand behind {' and behind '.join(map(repr, prefixes))}.")
        steps.append(f"p = '{prefixes[0]}'; w = {{k.removeprefix(p): v for k, v in w.items() if k.startswith(p)}}")
    return " ".join(["", *words, f"Convert them: {'; '.join([LOAD, *steps, SAVE])}"])


def _prefixes(needed: set[str], found: set[str]) -> Iterator[str]:
    """What stands before the names that are needed, the commonest first."""
    anchor = min(needed, key=lambda key: (-len(key), key), default="")
    seen = Counter(key.removesuffix(anchor) for key in sorted(found) if key.endswith(anchor))
    yield from (prefix for prefix, _ in seen.most_common() if not prefix or prefix.endswith("."))
