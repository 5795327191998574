"""What travels between master and workers: batches of events, and the payload ring beside them."""
