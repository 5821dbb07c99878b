"""One-class defect inspection: from a folder of good parts to a decision with a promised false-reject rate."""
