"""Training: steps, schedules, processes, checkpoints and what one sees of a run."""
