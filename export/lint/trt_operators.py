"""Which standard operators TensorRT's parser knows.

`KNOWN` is what `OnnxParser.supports_operator` says of TensorRT for RTX 1.7.1; a test compares them wherever that is installed.
"""

from __future__ import annotations

_KNOWN = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization BlackmanWindow Cast CastLike
    CausalConvWithState Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear
    Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish
    Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual LinearAttention Log
    LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonMaxSuppression
    NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform
    RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round STFT Scan Scatter ScatterElements
    ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish
    Tan Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
KNOWN = frozenset(_KNOWN.split())

_PLUGIN = "a plugin that TensorRT for RTX does not have"
ELSEWHERE = {
    "Attention": "a dedicated kernel, which TensorRT has for some shapes only (opset 22 and older write it as products and a softmax)",
    "CausalConvWithState": _PLUGIN, "LinearAttention": _PLUGIN, "NonZero": _PLUGIN, "RoiAlign": _PLUGIN,
    "NonMaxSuppression": "a kernel that TensorRT for RTX does not have",
}  # fmt: skip
"""Operators the parser knows and that still do not run everywhere: what they need."""

_NEW = """
    Attention BlackmanWindow CausalConvWithState HammingWindow HannWindow LinearAttention RMSNormalization RotaryEmbedding STFT Swish
    TensorScatter
"""
AFTER_JETPACK6 = frozenset(_NEW.split())
"""Known now and not in TensorRT 10.3: windows came with 10.4, STFT with 10.5 (onnx-tensorrt, docs/Changelog.md), and the others are of
operator sets after ONNX 1.16."""
