"""The parts that every message passes through: loop, connections, links to workers, windows."""
