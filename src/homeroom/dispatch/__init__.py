"""Send to partner systems what a finished course means to them."""
