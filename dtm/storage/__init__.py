"""The store: one SQLite file that holds every task, and the only code that speaks SQL."""
