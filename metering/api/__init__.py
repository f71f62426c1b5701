"""The HTTP API: it translates requests and answers, and decides nothing.

One file per subject holds its routes and the types of its answers. What they share: `routes` (how a route declares
its answer and its problems), `parameters`, `paging`, `answers`, `problems`, `auth`. `description` makes
`/openapi.json`. Start reading with `charges`.
"""
