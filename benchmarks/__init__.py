"""What is fast, by how much, and beside what. Each module runs alone: `python -m benchmarks.bench_x`."""
