"""The one way from an entry point into the agent: dispatch, runs, connections; imports `agent` and below."""
