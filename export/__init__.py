"""Twin -> artefacts: ONNX, INT8 Q/DQ, parity with the twin, evidence of what a runtime runs.

Knows no device, no attack, no data set and no record: it takes a PyTorch module, calibration images and a folder.
"""
