"""Several verbs in a row, told in one report."""
