"""What a device is and how it is reached (`host`), and what runs there (`worker`).

Knows no PyTorch, no attack and no verdict: bytes of images go out, logits and raw timings come back.
"""
