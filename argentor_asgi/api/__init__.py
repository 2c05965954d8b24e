"""The routes: a declaration and a few lines each, no policy; imports `gateway` and below."""
