"""The job kernel: queues, workers, schedules. It depends on no feature."""
