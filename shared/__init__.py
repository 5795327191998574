"""What all processes of a server agree on: codecs, settings, shared memory, process basics. No clients' sockets."""
