"""The bench runner: what this map costs, beside its peers, in one interleaved run."""
