"""agent user: operators and what they may do."""
