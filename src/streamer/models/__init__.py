"""The model interface, and the included models."""
