"""The command lines of dtm-server and dtm-client."""
