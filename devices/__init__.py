"""What a device is, how to reach it, and the worker that runs there.

Knows no PyTorch, no attack and no verdict: a job folder goes out, raw values come back.
numpy and the standard library only, so that the same code runs on a board where nothing can be installed.
"""
