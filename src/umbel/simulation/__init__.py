"""Thousands of virtual clients on one machine or a Ray cluster: one engine, three executors."""

from umbel.simulation.simulate import BACKENDS, run_simulation

__all__ = ["BACKENDS", "run_simulation"]
