"""Measurements of the gateway beside a bare ASGI callable and beside its peers; `python -m bench` runs them."""
