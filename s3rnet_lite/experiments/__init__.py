"""The campaigns behind Tables I and II and every stored result; chapters 06, 09 and 11."""
