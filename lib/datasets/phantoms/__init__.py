"""Synthetic data sets with exactly known references, in the layouts of published data sets."""

TRUTH = "truth.csv"  # next to each phantom: exact quantities per case, which no published data set has
