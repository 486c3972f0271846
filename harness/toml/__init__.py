"""TOML files that a user writes."""
