"""Workflows under test: the whole engine in memory, under a clock that the test moves, and under faults."""

from dramaturg.testing.clock import VirtualClock
from dramaturg.testing.env import WorkflowEnv
from dramaturg.testing.replaying import replay
from dramaturg.testing.simulation.simulate import simulate

__all__ = ["VirtualClock", "WorkflowEnv", "replay", "simulate"]
