"""The only conductor: sessions, scorer, engine and transports joined."""
