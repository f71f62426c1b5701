"""Usage statements: the customer's document about an invoice, as PDF and HTML."""
