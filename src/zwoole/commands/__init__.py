"""The commands of `zwoole`, a module for each group of them."""
