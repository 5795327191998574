"""From a script or a command line to a running supervisor."""
