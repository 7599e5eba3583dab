"""A training run to a bundle: graphs, vectors, neighbours, ranker, and what was measured of them."""
