"""What is told of a run, made from its JSON only."""
