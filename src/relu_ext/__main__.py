"""`python -m relu_ext` prints what was built and what runs."""

from relu_ext import show_config

show_config()
