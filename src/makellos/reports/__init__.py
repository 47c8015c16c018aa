"""Reports for people: self-contained HTML pages made from results."""
