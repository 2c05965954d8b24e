"""What operators see and steer: time, metrics, health, drain, logs; imports `asgi`, `protocol`, `config`, `errors`."""
