"""What other people's tools wrote down of photos, in any layout, as one list of photos with kinds and shapes."""
