"""Load for streaming servers, and what it measured."""
