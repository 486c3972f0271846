"""Signs that put back what a magnitude lost: sign(x) f(|x|), as power pools, signed roots and soft thresholds are written.

Their derivative is f'(|x|). A straight-through sign, which is for those that stand alone, would add
f(|x|) to it: another function's gradient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

MOST_BETWEEN = 32  # operators from |x| to the product
# Element by element and with a derivative, by their names in aten and, in small letters, in ONNX. No comparison, whose gradient is 0.
POINTWISE = frozenset(
    """
abs add ceil clamp clamp_max clamp_min clip div exp expm1 floor log log1p log2 max maximum min minimum mul neg pow reciprocal
relu round rsqrt rsub sigmoid softplus softshrink sqrt square sub tanh trunc
""".split()  # noqa: SIM905
)
PASSING = frozenset({"alias", "clone", "identity", "quantizelinear", "dequantizelinear"})


@dataclass(frozen=True)
class Call:
    """One node of a graph: its operator in small letters without an overload, and the tensors that it takes and makes."""

    name: str
    inputs: Sequence[str]
    output: str


def odd_signs(calls: Sequence[Call]) -> set[str]:
    """Outputs of the signs that only multiply what is computed, element by element, from what they are the sign of."""
    made = {call.output: call for call in calls}
    readers: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        for key in call.inputs:
            readers[key].append(call)
    return {call.output for call in calls if call.name == "sign" and _only_multiplies(call, readers, made)}


def _only_multiplies(sign: Call, readers: dict[str, list[Call]], made: dict[str, Call]) -> bool:
    """Whether all that reads a sign, or its quantized form, is its product with what is computed from the same x."""
    waiting, seen = [sign.output], set[str]()
    while waiting:
        value = waiting.pop()
        if not readers[value]:
            return False
        seen.add(value)
        for reader in readers[value]:
            if reader.name in PASSING:
                waiting += {reader.output} - seen
            elif reader.name != "mul" or not any(_leads_to(sign.inputs[0], key, made) for key in reader.inputs if key != value):
                return False
    return True


def _leads_to(x: str, value: str, made: dict[str, Call]) -> bool:
    """Whether `value` is computed from `x` element by element."""
    waiting, seen = [value], set[str]()
    while waiting and len(seen) < MOST_BETWEEN:
        key = waiting.pop(0)
        if key == x:
            return True
        if key in made and key not in seen and made[key].name in POINTWISE | PASSING:
            waiting += made[key].inputs
        seen.add(key)
    return False
