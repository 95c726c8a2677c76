"""Transports: thin adapters of sockets."""
