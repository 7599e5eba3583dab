"""A dataset and a model in, a run directory out. Needs torch, numpy and pyarrow; no Polars."""
