"""Reports: what `pcalm report` makes of records, as tables, figures and one page."""
