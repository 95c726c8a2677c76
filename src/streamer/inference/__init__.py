"""Inference: batching, worker threads and processes."""
