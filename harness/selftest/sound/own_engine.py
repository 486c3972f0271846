"""The user's own engine computes the network as it is."""
