"""What watching costs a server: ``python -m mad.bench.scrape --config mad.toml``."""
