"""The wire, sans-IO: messages and lines, no sockets."""
