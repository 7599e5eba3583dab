"""Sources of events, items and users: one dataset a file. Knows files and licences, nothing about models."""
