"""IMAP as pure code: octets, lines, tokens, commands, responses, and the client's state machine.

`lexer` serves both ends of a connection; `command` is the only encoder of arguments and `verbs` the
commands we speak; `response` reads what a server says, `machine` knows what it means for the
connection, `collect` joins what one command's answer is spread over; `seqset` and `utf7` are its
two notations. No socket, no clock, nothing of JMAP.
"""
