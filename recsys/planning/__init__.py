"""What a job of another size will take: measured costs, times the work there is."""
