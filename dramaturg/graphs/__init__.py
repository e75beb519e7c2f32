"""Graphs of steps: built in Python or sent as JSON, run by one workflow that knows nothing but that JSON."""
