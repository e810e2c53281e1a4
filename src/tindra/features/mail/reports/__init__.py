"""What reports that come back say of messages that were sent."""
