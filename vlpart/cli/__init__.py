"""The `vlpart` command: one small file per subcommand, each calls one function of the library."""
