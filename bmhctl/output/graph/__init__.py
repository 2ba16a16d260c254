"""The lifecycle as a graph: in the terminal, as Mermaid, DOT and SVG."""
