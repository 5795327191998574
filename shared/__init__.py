"""What master and workers agree on: codecs, settings, shared memory. No sockets, no processes."""
