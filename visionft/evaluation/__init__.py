"""Measure what a representation or a classifier knows: probes, neighbours, metrics and their uncertainty."""
