"""What the chapters share: pictures, widgets, the claims ledger, labs, and generated pages."""
