"""The only packages that read live statistics. ``base`` says what a source is; ``collect`` chooses among them."""
