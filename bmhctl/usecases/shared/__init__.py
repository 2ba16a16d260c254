"""What use cases are made of; no command has its function here."""
