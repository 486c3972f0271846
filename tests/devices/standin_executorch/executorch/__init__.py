"""ExecuTorch's runtime without ExecuTorch; see `runtime`."""
