"""How good the running cluster is: cases, trials on it, figures with their targets."""
