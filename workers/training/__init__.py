"""Training: a recipe (YAML) goes in, a model folder with its card comes out."""
