"""Float in onnxruntime."""

FLAVOURS = ("onnx-fp32",)
