"""The load tester and the comparison with other servers."""
