"""What a run is made of: its scenarios and rows, the workload, the clock, the machine."""
