"""The engine reads bytes that lie channel by channel pixel by pixel."""

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """NHWC taken for NCHW."""
    return engine(images.transpose(0, 2, 3, 1).reshape(images.shape))
