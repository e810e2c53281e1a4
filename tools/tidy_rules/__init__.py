"""The rules of the house as functions: each takes a `Tree` and yields what is wrong with it."""
