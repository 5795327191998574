"""Real clients under load while a harness injects faults, with exact counts."""
