"""Predictions and truth in, numbers with intervals out, then a report."""
