"""Running models: batching, threads, worker processes."""
