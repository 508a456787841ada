"""Connections and waiting as both sides have them. Knows bytes only."""
