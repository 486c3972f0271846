"""Magnitude pruning, then fine-tuning with the pattern held: the baseline, and with pattern 2:4 what a sparse tensor core can run."""

from __future__ import annotations

from torch import nn

from harness.compression.job import Job
from harness.compression.masks import bake, dense, hold, patterns, prunable


def magnitude(job: Job) -> nn.Module:
    """Zero the smallest weights of each convolution, then fine-tune what is left.

    INT8 rounding keeps a zero a zero, so a pattern survives quantization.

    Source: Han et al., "Learning both Weights and Connections", NeurIPS 2015; for 2:4 Mishra et al., "Accelerating Sparse Deep Neural
    Networks", 2021, algorithm 1.
    """
    layers = prunable(job.network, job.pattern)
    job.notes["dense_layers"] = dense(job.network, layers)
    hold(job.network, patterns(layers, job.pattern, job.sparsity))
    return bake(job.train("finetune"))
