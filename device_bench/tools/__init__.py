"""What other benchmark tools print, read into one kind of record: text in, record out, one file a tool."""
