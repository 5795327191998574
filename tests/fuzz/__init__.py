"""Arbitrary bytes for whatever reads bytes from outside its process."""
