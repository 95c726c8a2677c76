"""The core: one stream of one client as a machine of plain values."""
