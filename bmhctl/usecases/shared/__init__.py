"""What use cases are made of; no command lives here."""
