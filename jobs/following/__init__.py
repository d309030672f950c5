"""Following a job: its status pushed to whoever waits for it, over SSE or a WebSocket.

What is sent are the rows of its history, so their ids say where a reader was when it left.
``looking`` asks the database, ``feed`` asks once for all readers of one process and only while
there are any, ``entrance`` lets readers in, ``stream`` and ``socket`` write to them. A reader keeps
no thread and no connection. Every process looks for itself, so nothing hangs on Redis.
"""
