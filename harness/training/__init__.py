"""Training: recipes in, a safetensors file and a model card out.

Knows objectives and schedules; knows no device and no export. The test images are used once, for the card:
every choice (which epoch, when to stop) is made on training images that were held out.
"""
