"""The gateway as the environment describes it, with instruments: for a model that is a server of its own."""

from argentor_asgi.compose import gateway
from bench.watched import watched

app = watched(gateway().app)
