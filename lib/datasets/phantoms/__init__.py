"""Data sets that the project makes itself, in publishers' layouts."""

TRUTH = "truth.csv"  # beside a phantom: what its program knows of each case, and no published data set has
