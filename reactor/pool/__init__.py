"""The workers as the master sees them: their coming, hand-over, and what a death means."""
