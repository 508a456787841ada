"""Who may connect: tokens and their proof, TLS, and the addresses that need both. No open connections."""
