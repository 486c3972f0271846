"""`harness validate`: what others published, each beside this program's own figure for it.

A check is one file and one line in `CHECKS`. It says confirmed, refuted or not comparable of the published statement on networks of this
project, whose size and training differ: a statement that is not confirmed here is not thereby wrong where it was made.
"""
