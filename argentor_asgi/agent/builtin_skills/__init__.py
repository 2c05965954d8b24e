"""The skills that every gateway has: pure Python, no shell, no network, no file; imports `agent.skills` and below."""
