"""What stands between the loop and models that fail: retries, circuit breakers, failover; imports as `agent`."""
