"""INT8 and float side by side."""

FLAVOURS = ("ort-int8", "onnx-fp32")
