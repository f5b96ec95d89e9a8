"""What a user would pick instead, as processes that the bench can measure like the hub."""
