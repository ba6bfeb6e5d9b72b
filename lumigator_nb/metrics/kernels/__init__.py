"""Fast computations that several metrics share."""
