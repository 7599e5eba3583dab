"""Event logs to training tables, and the same encoding for serving."""
