"""Measurements of loading, training and sharding, each against something side by side."""
