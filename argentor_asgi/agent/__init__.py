"""The turn loop, the models behind it and the skills it calls; imports `security`, `sessions`, `ops` and below."""
