"""SQL that reads entries, invoices and the progress of an invoice run."""
