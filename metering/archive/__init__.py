"""Archives: closed months that are moved out of the database, into files that anybody can read.

An archive is a folder for one month of arrival. `journal.parquet` has the requests that arrived in it,
`streams.parquet` the joined facts of the streams whose last event arrived by its end, and `manifest.json` says
what both hold, with checksums. Charges, adjustments and totals stay in the database, and so do the tags of an
archived stream and the name of its archive: no late event of it is taken for a new stream. `metering audit
--archive` derives every bill from both.
"""
