"""Questions, answers, grades, and the divergence of next-token distributions."""
