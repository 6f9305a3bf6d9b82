"""What every role shares. Nothing in here knows a role."""

__version__ = "0.2.0"
