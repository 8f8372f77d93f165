"""The map itself: settings and designs that differ in one thing only."""
