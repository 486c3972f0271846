"""The radius is given in levels of a byte where it should be a share."""

CAUGHT_BY = "refused: eps"
SETTINGS = {"eps": "8"}
