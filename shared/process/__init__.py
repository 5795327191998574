"""What every process of a server needs: log, signals, lifeline, plan, file names in the run directory."""
