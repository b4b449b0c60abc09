"""Laws, units, the real server, the whole system."""
