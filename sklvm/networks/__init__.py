"""Encoders, decoders and likelihoods of the neural models, as torch modules and values."""
