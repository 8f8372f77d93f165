"""Floor 1: the kernel: segments, locks on bytes of files, processes, tasks."""
