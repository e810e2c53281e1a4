"""Sieve (RFC 5228): a script's text to a checked tree, and the tree and a message to actions."""
