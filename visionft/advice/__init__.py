"""What was measured about a user's images, what follows from it, and the commands that act on it."""
