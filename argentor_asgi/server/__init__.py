"""hypercorn in one process, with its settings in code; imports everything below."""
