"""Who may do what: principals and certificates in files, a table of methods, a gate before all."""
