"""Memory that several processes of a server share."""
