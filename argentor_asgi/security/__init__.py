"""Who asks, and what they may; imports `ops`, `asgi`, `protocol`, `config` and `errors`."""
