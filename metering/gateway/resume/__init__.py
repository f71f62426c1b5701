"""Resume: a client that lost its connection comes back with its `X-Resume-Key`, and gets the same answer whole.

What a client is shown is kept for a while in a Valkey, encrypted, and the completion goes on without it for a
while. The second request starts no completion, so there is one charge.

`copies.py` is for the process that serves the completion, `resumed.py` for the one to which the client comes back.
`store.py` talks to Valkey; `sealing.py` makes names and encrypts. Nothing here meters, and nothing here may delay
or break a completion.
"""
