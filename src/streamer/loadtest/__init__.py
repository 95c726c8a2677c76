"""Load tests of streaming servers."""
