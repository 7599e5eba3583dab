"""A bundle in, recommendations out. Never imports torch."""
