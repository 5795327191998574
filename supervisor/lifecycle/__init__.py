"""The life of the server's processes: start, readiness, health, replacement, end."""
