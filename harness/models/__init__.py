"""Twins: architectures, the zoo, and the loaders that turn a file into a PyTorch classifier.

Knows no data set, no attack and no device. Every twin maps float images in [0, 1], shape (n, c, h, w),
to logits, shape (n, classes); normalisation lives inside it. Nothing here ever unpickles a file.
"""
