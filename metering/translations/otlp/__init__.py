"""OTLP: spans and log records of calls to models become the start and the end of a stream each.

`translate.py` goes the whole way: a body is read to records (`protobuf.py` or `json_body.py`), each record is
judged by itself (`calls.py`) and with those above and below it (`families.py`), and a call becomes its events
(`streams.py`). Names of attributes, current and older ones, are in `names.py`; what a deployment sets is in
`rules.py`. Only the attributes that are named there are read: prompts and answers are skipped. Decision 56 says
why.
"""
