"""Images with labels: the shipped sample, CIFAR-10, npz files and image folders, all as one frozen `Dataset`.

Knows no model. Images stay uint8 NHWC until the moment a network sees them.
"""
