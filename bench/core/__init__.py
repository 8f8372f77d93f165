"""What a run is made of: scenarios, peers and rows, the workload, the clock, the machine."""
