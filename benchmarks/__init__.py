"""Benchmarks: `pytest benchmarks` and `python -m benchmarks.peers`; README.md says how to read them."""
