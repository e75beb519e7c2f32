"""The whole engine on a simulated clock, store and broker, under faults that follow from a seed."""
