"""Compression: a twin in, a smaller twin out.

Knows methods, masks and quantizers, and trains through `harness.training`; knows no export, no device and no attack of an audit.
What a method claims (rate, bits) is never recorded: `count` counts the network that came out.
"""
