"""Mail providers over IMAP: the ports of `sync` on a real connection.

`provider` logs in, `session` is the port, `client` the connection, `window` the stream of messages;
`quirks`, `roles` and `verdicts` are what we know of hosts, names and errors, as data.
"""
