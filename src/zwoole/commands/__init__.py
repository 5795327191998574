"""The commands of `zwoole`."""
