"""The study of one model: answers in a matrix, estimates, tests, claims, the recommendation and their tables."""
