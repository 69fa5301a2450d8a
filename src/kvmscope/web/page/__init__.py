"""The files that a browser loads: the page as HTML with the numbers, its script and style, and uPlot for charts."""
