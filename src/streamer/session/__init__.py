"""The session: one connection's streams as a state machine over plain values."""
