"""The live view: what goes on right now, pushed to whoever watches.

``figures`` looks into the database, ``feed`` looks once a second for all watchers of all processes
and only while there are any, ``socket`` lets a watcher in and writes to it, ``views`` is the page.
The path of a call knows nothing of all this: what is shown is read from the rows that calls leave.
"""
