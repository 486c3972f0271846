"""Each activation has the scale of another layer's."""

from onnx import ModelProto

from harness.selftest.graphs import activation_scales, multiply
from harness.stages.subject import Subject

CAUGHT_BY = "FAILS"
FLAVOURS = ("ort-int8",)


def graph(made: ModelProto, subject: Subject) -> ModelProto:
    """The largest has the smallest, and so on."""
    scales = activation_scales(made)
    ranked = sorted(scales, key=lambda one: one[1])
    for (name, value), (_, other) in zip(ranked, reversed(ranked), strict=True):
        multiply(made, name, other / value)
    return made
