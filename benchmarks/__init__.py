"""How fast the engine is, beside bare Dramatiq on the same machine in the same minute: ``python -m benchmarks.run``."""
