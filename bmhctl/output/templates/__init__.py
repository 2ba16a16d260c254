"""The parts of the report's page: HTML for jinja2, its style and its script."""
