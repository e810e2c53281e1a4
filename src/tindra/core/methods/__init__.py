"""The six standard methods of RFC 8620 s5, generic over every Datatype."""
