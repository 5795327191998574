"""The verdicts of Autobahn|Testsuite on an echo server."""
