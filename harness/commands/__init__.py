"""Commands of the command line that need a file of their own. Each imports heavy modules inside its functions only."""
