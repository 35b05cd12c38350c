"""Runs the real network and asks the framework's allocator, or XLA's compiler, what it used."""
