"""How the console writes dates: day first, 24 hours, as its own pages and charts do."""
