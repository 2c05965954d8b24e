"""Hosted models as backends of the loop: one client of HTTP, one wire, one model each; imports as `agent`."""
