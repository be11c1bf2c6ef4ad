"""Umbel: federated learning, simulated and deployed with the same app."""
