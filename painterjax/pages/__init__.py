"""The report and the web page."""
