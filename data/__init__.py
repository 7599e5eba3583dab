"""Sources of events, items and users, one dataset a file: files and licences, not models."""
