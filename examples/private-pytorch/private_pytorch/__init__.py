"""Digits under example-level differential privacy."""
