"""Findings as sentences, each by a rule from the intervals and tests of the printed tables.

A rule takes plain tables and gives a list of sentences. It claims a difference only where a 95 % interval excludes
chance, says "no … was shown" where the interval contains 0, and says neither where there is no interval (below six
subjects), for which the least and the largest value stand. `lib.report.recompute.findings` has rules of its own.
"""
