"""One file per compression method; `harness.compression.table` lists them."""
