"""Model zoo, pre-trained weights, experiment and training."""
