"""Floor 6: making, opening, keeping and leaving a map."""
