"""What keys may use, in the console: edited and explained beside the catalog, which apps/access does not know."""
