"""A float graph is called INT8."""

from onnx import ModelProto

from harness.selftest.graphs import without_quantizers
from harness.stages.subject import Subject

CAUGHT_BY = "precision evidence"
FLAVOURS = ("ort-int8",)


def graph(made: ModelProto, subject: Subject) -> ModelProto:
    """The quantizers are taken out."""
    return without_quantizers(made)
