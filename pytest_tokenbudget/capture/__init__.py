"""How model requests are caught. Everything here that is slow to import is loaded when first needed."""
