"""Code generated from ``proto/umbel/v1`` by ``make wire``."""
