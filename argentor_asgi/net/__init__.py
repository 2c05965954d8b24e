"""Outbound I/O: whom the gateway may connect to, and how; imports `protocol` and below."""
