"""The condition that finds customers whose bookings draw or restore grants."""

# For a query about customers `c`. A grant that is used up counts too: it may get something back. Without grants,
# no customer is looked at.
HAS_GRANTS = """EXISTS (SELECT FROM grants)
           AND EXISTS (SELECT FROM grants g WHERE g.customer_id = c.customer_id)"""
