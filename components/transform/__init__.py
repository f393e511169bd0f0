"""Transform: raw columns to IDs and scaled numbers."""
