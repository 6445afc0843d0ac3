"""What every training run needs besides its loop: options, run folder, resume, step plan, schedule, processes."""
