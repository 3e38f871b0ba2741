"""An optimizer that writes down what happens, and continues where it ended."""
