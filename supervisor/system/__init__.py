"""What the supervisor has of the machine: sockets, run directory, service manager, files that it watches."""
