"""Arbitrary bytes for all code that reads bytes from outside its process."""
