"""Cloud Storage on one machine: its JSON API over a plain folder."""
