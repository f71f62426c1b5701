"""What people see of results in a terminal: tables that fit, headings in words, dollars, colours."""
