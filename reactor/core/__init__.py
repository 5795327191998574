"""The parts that every message passes: loop, connections, links to workers, windows."""
