"""Floor 0: the bytes that processes share: what lies where, and how it is touched."""
