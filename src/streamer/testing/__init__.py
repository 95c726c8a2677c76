"""What a user's own tests import: fakes, signals, in-memory pair, manual clock."""
