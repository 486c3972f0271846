"""A claim at half the radius."""

SETTINGS = {"eps": "4/255"}
