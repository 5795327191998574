"""Carries out the commands of workers: output for clients, its limits and its compression."""
