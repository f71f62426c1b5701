"""SQL that reads entries, invoices and the progress of a close."""
