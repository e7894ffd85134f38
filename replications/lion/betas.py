"""The betas of both optimizers where nothing else is said; imports nothing, so that figures can have them."""

LION_BETAS = (0.9, 0.99)
ADAMW_BETAS = (0.9, 0.999)
