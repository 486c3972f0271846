"""Trains the networks of the self-test anew: `python -m harness.selftest.train`, about a minute. Only their weights are shipped."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from harness.attacks.search import project
from harness.data.dataset import to_tensor
from harness.selftest.network import WEIGHTS, Network
from harness.selftest.pictures import TRAIN, pictures

EPOCHS, BATCH, STEPS, EPS, RATE = 12, 128, 4, 8 / 255, 0.01
EARLIER = 4  # the epoch whose weights are kept too
STANDARD, STANDARD_EPOCHS = WEIGHTS.with_name("network-standard.safetensors"), 6  # without an adversary


def main() -> None:
    """The network against an adversary, one of its earlier states, and one that saw noise alone."""
    torch.set_num_threads(1)  # so small a network gains nothing from more
    train(EPOCHS, STEPS, {EARLIER: WEIGHTS.with_name(f"network-epoch-{EARLIER}.safetensors"), EPOCHS: WEIGHTS})
    train(STANDARD_EPOCHS, 0, {STANDARD_EPOCHS: STANDARD})


def train(epochs: int, steps: int, kept: dict[int, Path]) -> None:
    """Adversarial training (Madry et al., ICLR 2018, arXiv:1706.06083) with Adam. `kept`: where the weights of which epochs go."""
    torch.manual_seed(0)
    data = pictures(TRAIN, 10_000)
    images, labels = to_tensor(data.images), torch.from_numpy(data.labels)
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for epoch in range(1, epochs + 1):
        for rows in torch.split(torch.randperm(len(images)), BATCH):
            network.eval()
            x = images[rows] + EPS * (2 * torch.rand_like(images[rows]) - 1)
            for _ in range(steps):
                x = x.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(F.cross_entropy(network(x), labels[rows]), x)
                x = project(x.detach() + EPS / 3 * gradient.sign(), images[rows], EPS)
            network.train()
            optimiser.zero_grad()
            loss = F.cross_entropy(network(x.detach()), labels[rows])
            torch.autograd.backward(loss)
            optimiser.step()
        schedule.step()
        print(epoch, round(loss.item(), 3), flush=True)
        if epoch in kept:
            save_file(network.state_dict(), kept[epoch])


if __name__ == "__main__":
    main()
