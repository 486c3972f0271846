"""ONNX's Attention (operator set 23), as PyTorch's exporter writes `scaled_dot_product_attention` from there on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.models.onnx_sizes import Attributes


def attention(attributes: Attributes, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *cache: None) -> Tensor:
    """softmax(scale q kᵀ + mask) v, the first output alone.

    Args:
        q, k, v: (n, heads, length, size), or (n, length, heads * size) with `q_num_heads` and `kv_num_heads`. A key and its value may be
            for several heads of the query.
        mask: broadcast against (n, heads, length of q, length of k); true where it may be looked at, or added. What it lacks at the end
            of its last axis is not looked at.
        cache: keys of earlier calls, which a classifier has none of; refused where a node is checked.
    """
    flat = q.ndim == 3
    if flat:
        q = _heads(q, attributes["q_num_heads"])
        k, v = (_heads(each, attributes["kv_num_heads"]) for each in (k, v))
    if (shared := q.shape[1] // k.shape[1]) > 1:
        k, v = (each.repeat_interleave(shared, dim=1) for each in (k, v))
    y = F.scaled_dot_product_attention(q, k, v, _mask(attributes, q, k, mask), scale=attributes.get("scale"))
    return y.transpose(1, 2).flatten(2) if flat else y


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def _mask(attributes: Attributes, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor | None:
    """What is masked, with what comes later where `is_causal` says so."""
    unseen = float("-inf") if mask is not None and mask.is_floating_point() else False
    if mask is not None and (missing := k.shape[2] - mask.shape[-1]) > 0:
        mask = F.pad(mask, (0, missing), value=unseen)
    if not attributes.get("is_causal", 0):
        return mask
    earlier = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    return earlier if mask is None else mask.masked_fill(~earlier, unseen)
