"""Playlists looked into: probes of their vectors, a map to explore, the nearest of one."""
