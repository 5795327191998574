"""What Autobahn|Testsuite says of an echo server."""
