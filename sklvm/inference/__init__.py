"""Drivers that climb an objective: EM, gradients and stochastic gradients share one history."""
