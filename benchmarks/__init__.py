"""One script per figure that the documentation quotes; each prints what it measured, and where."""
