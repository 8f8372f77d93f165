"""Several machines: a store behind the map, the map as the machine's one near cache."""
