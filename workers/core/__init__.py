"""What the other parts of a worker use: counters, a queue, what tasks wait on, how a worker ends."""
