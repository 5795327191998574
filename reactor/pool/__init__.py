"""The workers as the master sees them: their start, their hand-over, and the consequences of a death."""
