"""The first process: it starts the masters and workers, watches, reloads and stops them."""
