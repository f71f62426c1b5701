"""SQL that reads streams and their bookings."""
