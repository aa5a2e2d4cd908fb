"""The commands of `bench organisms`, `methods`, `results` and `dictionary`: parse, call, print."""
