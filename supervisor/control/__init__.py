"""What reaches the supervisor from outside: control messages, requests of the zwoole command, signals."""
