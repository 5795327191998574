"""What every process of a server has: log, signals, lifeline, plan, the names in the run directory."""
