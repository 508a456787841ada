"""The server: sockets, heartbeats and group commit around the store."""
