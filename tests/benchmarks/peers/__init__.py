"""What a user would pick instead of this cluster, and the environment that it is installed into."""
