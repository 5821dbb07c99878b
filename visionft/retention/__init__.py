"""Keeping what a backbone knew while it learns something new: remedies against forgetting, and what they are worth."""
