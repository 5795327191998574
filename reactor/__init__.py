"""The master process: accepts connections, implements RFC 6455, routes messages to workers."""
