"""Usage statements: an invoice in words and figures for its customer, as PDF and HTML."""
