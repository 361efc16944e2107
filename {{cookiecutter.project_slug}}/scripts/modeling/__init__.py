"""Model zoo, networks and pre-trained weights."""
