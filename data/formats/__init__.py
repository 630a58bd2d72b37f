"""File formats and layouts that several sources read: one module each."""
