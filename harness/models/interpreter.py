"""A network read from a file: a list of steps over named values, and the weights they use. Plain data, no generated code."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Ref:
    """The value of that name."""

    name: str


@dataclass(frozen=True)
class Instruction:
    """One operator call.

    Attributes:
        function: called with the resolved arguments.
        arguments: positional; each a `Ref`, a literal, or a list of them.
        keywords: by name, likewise.
        outputs: names of the results; "" drops one. With more than one name the function returns a sequence.
        unused: values that no later step needs, freed after this one.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: tuple[str, ...]
    unused: tuple[str, ...] = ()

    def reads(self) -> set[str]:
        """Names of the values it needs."""
        return references(self.arguments) | references(list(self.keywords.values()))


def references(value: Any) -> set[str]:
    """Names that an argument refers to."""
    if isinstance(value, Ref):
        return {value.name}
    return {name for item in value for name in references(item)} if isinstance(value, list | tuple) else set()


def free_early(steps: Sequence[Instruction], kept: set[str]) -> list[Instruction]:
    """Mark every value with the last step that needs it, so that a forward pass holds no more than it must."""
    alive, marked = set(kept), []
    for step in reversed(steps):
        named = step.reads() | {name for name in step.outputs if name}
        marked.append(replace(step, unused=tuple(sorted(named - alive))))
        alive |= named
    return marked[::-1]


class GraphInterpreter(nn.Module):
    """Runs steps. Weights are parameters and buffers of this module, named after those of the file.

    Args:
        steps: in order.
        weights: name of the value -> tensor; an `nn.Parameter` becomes a parameter, any other tensor a buffer. Those that no step reads
            are left out: they are none of the network's.
        source: name of the input value.
        result: name of the output value.

    Attributes:
        widened: its file computes in float16 or bfloat16 what this computes in float32.
    """

    widened = False

    def __init__(self, steps: Sequence[Instruction], weights: dict[str, Tensor], source: str, result: str) -> None:
        super().__init__()
        read = {result, *(name for step in steps for name in step.reads())}
        weights = {name: tensor for name, tensor in weights.items() if name in read}
        self.steps = free_early(steps, {result, *weights})
        self.source, self.result = source, result
        self.attributes = {name: self._register(name, tensor) for name, tensor in weights.items()}

    def _register(self, name: str, tensor: Tensor) -> str:
        """Names in files may hold dots and slashes, or be those of methods: find one that a module accepts."""
        attribute = "w_" + re.sub(r"\W", "_", name)
        while hasattr(self, attribute):
            attribute += "_"
        if isinstance(tensor, nn.Parameter):
            self.register_parameter(attribute, tensor)
        else:
            self.register_buffer(attribute, tensor)
        return attribute

    def extra_repr(self) -> str:
        """Every step, so that a hash of the module as printed tells two graphs with the same weights apart."""
        return "\n".join([f"{self.source} -> {self.result}", *map(repr, self.steps)])

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, c, h, w) -> logits (n, classes)."""
        return self.walk(x)

    def walk(self, x: Tensor, watch: Callable[[dict[str, Any]], None] | None = None) -> Tensor:
        """As `forward`; `watch` is shown the values that are held after each step, weights among them."""
        values: dict[str, Any] = {name: getattr(self, attribute) for name, attribute in self.attributes.items()}
        values[self.source] = x

        def resolve(value: Any) -> Any:
            if isinstance(value, Ref):
                return values[value.name]
            return [resolve(item) for item in value] if isinstance(value, list) else value

        for step in self.steps:
            result = step.function(*map(resolve, step.arguments), **{key: resolve(value) for key, value in step.keywords.items()})
            results = (result,) if len(step.outputs) == 1 else result
            values.update(zip(step.outputs, results, strict=False))
            if watch is not None:
                watch(values)
            for name in step.unused:
                values.pop(name, None)
        output: Tensor = values[self.result]
        return output
