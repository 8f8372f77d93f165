"""Backends for the caches, limiters and servers of others: one file each, none imports another."""
