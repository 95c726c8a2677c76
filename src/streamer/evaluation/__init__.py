"""Evaluation of a recogniser on recordings with known words: errors, cost, latency."""
