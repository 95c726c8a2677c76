"""Thin shells around sockets."""
