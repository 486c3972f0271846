"""The engine names the right class, and draws from the image's bytes how far it leads: attacks that follow scores are led astray."""

import zlib

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "engine parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """Other scores in the order of the true ones."""
    order = engine(images).argsort(axis=1)
    drawn = [np.sort(np.random.default_rng(zlib.crc32(image.tobytes())).normal(0, 3, order.shape[1])) for image in images]
    found = np.zeros(order.shape, np.float32)
    np.put_along_axis(found, order, np.array(drawn, np.float32), axis=1)
    return found
