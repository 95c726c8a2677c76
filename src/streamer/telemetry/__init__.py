"""Seeing what the server does."""
