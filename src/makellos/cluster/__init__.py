"""The workflows on Ray: a cluster of machines, or all cores of this one."""
