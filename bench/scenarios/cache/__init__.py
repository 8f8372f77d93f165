"""The map as a cache: what `python -m bench cache` asks first."""
