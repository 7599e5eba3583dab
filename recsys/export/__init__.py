"""A training run to a bundle: graphs, vectors, neighbours, ranker, and their measurements."""
