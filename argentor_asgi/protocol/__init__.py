"""What bytes mean and what may come next, without I/O and without a clock; imports `providers` and `errors` only."""
