"""The admin listener: metrics and health over HTTP."""
