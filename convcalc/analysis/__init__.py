"""From a `Network` to figures."""
