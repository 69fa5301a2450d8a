"""What a browser loads: the page as HTML with the numbers already in it, its script and style, and uPlot for charts."""
