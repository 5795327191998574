"""The comparison with other servers, `make bench`."""
