"""What this project does, measured beside its peers and beside what the machine can do at all: python -m bench."""
