"""Connections as both sides have them. Knows bytes only."""
