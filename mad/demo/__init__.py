"""The five-minute start, on real data that ships with the package."""
