"""Admin: the operator's shell, and one-shot commands for scripts.

    main ── login ── oneshot or repl ── commands ── views, reports ── picture ── quantity
                          └── session: the link to a daemon, which feeds the picture

One function per command (commands.py), the same in the shell and in a script: what differs between the two, a
desk supplies (desk.py).
"""
