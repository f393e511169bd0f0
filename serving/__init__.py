"""What is served: the model's signatures and the versioned registry it is pushed to."""
