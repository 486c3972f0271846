"""INT8, calibrated by percentiles."""

FLAVOURS = ("ort-int8",)
SETTINGS = {"calibration": "percentile"}
