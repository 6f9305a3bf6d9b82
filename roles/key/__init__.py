"""agent key: the keys of the group and of its machines."""
