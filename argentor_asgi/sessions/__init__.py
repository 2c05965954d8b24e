"""What was said: sessions, runs and notes, and where they are kept; imports `ops`, `protocol` and below."""
