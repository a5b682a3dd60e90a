"""What a trained model does along its scalar: pure functions, tensors in, frozen results out."""
