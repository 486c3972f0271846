"""A finished record -> tables, plots, HTML, Markdown, JUnit, JSON.

Reads a run folder and nothing else; knows no model and imports no torch.
"""
