"""Published prices as rate cards. The only package that imports genai_prices, and only to import from it."""
