"""Emulators of cloud services, for rehearsals and tests without a cloud account."""
