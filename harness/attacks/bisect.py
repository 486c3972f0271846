"""Bisection between the clean image and the best failure, for images near a decision boundary that two nearly equal networks do not share.

Where a network that stands in for the target was fooled and the target was not, halving the way finds that network's boundary along the
direction that its gradients found: there the two may differ. Where the target was fooled and that network was not, it is the target's own
boundary. Each point on the way is a byte image, and the target says which is the best.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.attacks.search import Search, halved


def bisect(search: Search, *, steps: int) -> None:
    """At most `steps` points for each image, after the failure itself; without one, after a random start."""
    end, clean, labels = search.start(), search.images, search.labels
    guide = getattr(search.module, "guide", search.module)

    def wrong(logits: Tensor) -> Tensor:
        return logits.to(labels.device).argmax(1) != labels

    with torch.no_grad():
        by_target, by_guide = wrong(search.ask(end)), wrong(guide(end))
        among = (by_target | by_guide).nonzero().squeeze(1)  # elsewhere the way crosses no boundary
        if not len(among):
            return
        end, clean, labels, follows = end[among], clean[among], labels[among], by_guide[among]
        halved(clean, end, steps, lambda x: torch.where(follows, wrong(guide(x)), wrong(search.ask(x, among))))
