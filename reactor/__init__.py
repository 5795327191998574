"""The master process: accepts connections, speaks RFC 6455, routes messages to workers."""
