"""INT8 with two threads."""

FLAVOURS = ("ort-int8",)
SETTINGS = {"threads": 2}
