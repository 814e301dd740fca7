"""Mutation testing: changes the code in small ways and checks that a test fails for each."""
