"""What all parts of the supervisor know: its loop, the processes and their roles, the tables of control messages."""
