"""INT8 in onnxruntime."""

FLAVOURS = ("ort-int8",)
