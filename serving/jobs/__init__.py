"""What a batch job is made of: a plan of parts, workers, executors, a journal and checks."""
