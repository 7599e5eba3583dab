"""The thin server around a Recommender: `recsys serve`."""
