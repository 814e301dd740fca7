"""One program for each Python client: it uses every feature, and prints what it observed."""
