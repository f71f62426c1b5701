"""Use cases against a real database; each test ends with an audit."""
