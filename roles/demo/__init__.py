"""The demo: a whole group on this machine, in a folder that goes away with it.

main ── group ── crew       roles as child processes, and what they say
          │  └── scene      the world that they play (pure)
          └───── ending     ends whatever belongs to the folder, after any kind of death
server                      the game processes, as small as honest ones can be: the same binary again
"""
