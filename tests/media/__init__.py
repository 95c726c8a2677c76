"""Compressed audio: every file of the material, cut in every way."""
