"""The cluster of this machine: embedded services and worker processes under one supervisor. No model library."""
