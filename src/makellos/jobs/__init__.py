"""Many fits with plan, processes and records: comparisons and queues."""
