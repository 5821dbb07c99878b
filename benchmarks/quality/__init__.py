"""Accuracy benchmarks: protocols, seeds, intervals."""
