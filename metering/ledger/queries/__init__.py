"""SQL that reads what is booked."""
