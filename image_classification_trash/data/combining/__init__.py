"""Data sets that combine several sources: the data sources file, known public sets, roles and attribution."""
