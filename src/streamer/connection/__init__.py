"""The runtime of connections: joins sessions, scorer, engine and transports."""
