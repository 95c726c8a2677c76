"""Dialects: the protocols of other speech services, mounted into a server. Their codecs are in `protocols`."""
