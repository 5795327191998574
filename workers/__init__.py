"""The processes that run the user's callbacks."""
