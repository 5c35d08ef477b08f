"""What a network does: features, channel energy (07), CKA (08), counts (04) and ceilings (10)."""
