"""The links to the masters: what callbacks push goes over them, in order and within limits."""
