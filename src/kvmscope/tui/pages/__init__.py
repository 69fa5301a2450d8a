"""The pages of ``kvmscope top``: what each shows, and what its keys do. They do not access the terminal."""
