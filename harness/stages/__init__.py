"""The hops of `harness bench`, one file each: subject, export, attack, measure, judge.

Each takes what the hop before it returned and adds its part to the record; none knows how its room's library does the work.
"""
