"""What the platform says of itself while it works: ids in log lines, metrics, traces."""
