"""What a server withstands, by the pass marks of its promises."""
