"""Tindra: the open, self-hostable backend of a smart, shared, focused email client."""
