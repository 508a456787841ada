"""dtm-admin: the operator's command line. Installed as dtm_admin."""
