"""The stages of `harness bench`, one file each: subject, export, engines, measure, attack, judge.

Each takes what the stages before it returned and adds its part to the record; none knows how its room's library does the work.
"""
