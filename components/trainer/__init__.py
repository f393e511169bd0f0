"""Trainer on several machines. The network itself is in the package trainer."""
