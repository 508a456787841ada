"""dtm, a durable task manager: one server, one SQLite file, any number of clients."""
