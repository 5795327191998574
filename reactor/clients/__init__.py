"""The side of the clients: from accept over handshake, frames and limits to the close."""
