"""Inbound I/O: the ASGI events, the router, requests, responses and sockets; imports `protocol` and `errors`."""
