"""The commands, one file each. Each imports heavy modules inside its functions only."""
