"""The generated pages of docs/: `facts` finds what the code has, `pages` writes it down."""
