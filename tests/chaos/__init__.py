"""Real clients under load while the harness does mischief, with exact counts."""
