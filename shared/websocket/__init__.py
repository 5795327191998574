"""RFC 6455 and RFC 7692 without a socket: frames, mask, messages, compression, close codes."""
