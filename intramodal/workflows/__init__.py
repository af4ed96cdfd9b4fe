"""The few functions that join layers; the command line calls only these."""
