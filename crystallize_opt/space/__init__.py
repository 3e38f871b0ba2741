"""The search space: parameters, conditions, linear constraints."""
