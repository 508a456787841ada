"""The rules, pure: no clock, no chance, no sockets, no database."""
