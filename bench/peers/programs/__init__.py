"""What the peers' own interpreter runs: for each peer a module that submits, works and reads the results back.

Imports nothing of dtm: this environment does not have it.
"""
