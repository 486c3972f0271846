"""Other images and other random starts."""

SETTINGS = {"seed": 7}
