"""Benchmarks: ``python bench/run.py`` measures everything in one run and writes RESULTS.md."""
