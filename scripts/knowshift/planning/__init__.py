"""What an experiment will take: jobs, tokens, disk, GPUs and time."""
