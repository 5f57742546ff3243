"""Side by side with what people run otherwise: `make bench`, or `python -m benchmarks --help`. See docs/benchmarks.md."""
