"""Progress: ingest of events, and the chapters and courses rolled up from them."""
