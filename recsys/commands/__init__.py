"""The verbs of `recsys`, a file for each group of them."""
