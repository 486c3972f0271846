"""Dense weights are called 2:4 sparse."""

CAUGHT_BY = "refused: sparse"
FLAVOURS = ("trt-int8-sparse",)
