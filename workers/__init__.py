"""The only place that imports model libraries: roles, engines, training, evaluation."""
