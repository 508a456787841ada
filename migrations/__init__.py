"""How the database came to look as it does; installed as dtm_migrations."""
