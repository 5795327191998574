"""The load tester, `zwoole bench`."""
