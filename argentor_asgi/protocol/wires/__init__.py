"""How each kind of model provider is asked and understood; imports the protocol's own modules, `providers` and `errors`."""
