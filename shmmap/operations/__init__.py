"""Floor 4: what a handle does: the bases of ShmMap."""
