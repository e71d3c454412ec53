"""Packs directories into archives, and unpacks archives safely."""
