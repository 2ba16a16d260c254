"""An inventory in a PostgreSQL schema, for any number of machines."""
