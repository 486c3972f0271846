"""INT8 with exact kernels on every CPU."""

FLAVOURS = ("ort-int8-precise",)
