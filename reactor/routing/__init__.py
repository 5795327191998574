"""Decides which worker a message goes to, and in which order."""
