"""The questions that people have: what fits on which device, and what to change so that it does."""
