"""The embedded planner `argentor-builtin/1`: a model made of rules; imports `agent/backends`, `protocol` and below."""
