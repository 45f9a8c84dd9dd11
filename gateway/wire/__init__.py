"""The wire: bytes. This room knows HTTP and no token, no price, no provider.

``front`` accepts requests and hands each one, as an ``Arrival``, to the callable it was given. ``routes`` says which
upstream a path means, ``upstreams`` keeps connections, ``attempts`` sends a request and ``relay`` copies one answer,
chunk by chunk, to the client first and to a watcher afterwards. ``headers`` holds the lists of what is not passed on.
"""
