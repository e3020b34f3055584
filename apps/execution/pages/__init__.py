"""What the console shows of runs, as values for templates: nothing here knows the admin."""
