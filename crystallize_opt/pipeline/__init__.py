"""What is run: data sources, steps, plugins, and one run of them."""
