"""The client: takes tasks from the server, runs them, and submits new ones."""
