"""How and where PyTorch computes here: threads, memory, the kind of device, its arithmetic, a cluster. Knows no network and no attack."""
