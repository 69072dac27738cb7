"""Wait until each queue has a consumer: wait_for_consumers.py URL QUEUE...

An agent that calls before the server listens waits a minute, and then some more.
"""

import sys
import time

import kombu

WITHIN_S = 120.0


def consumed(url, queue):
    try:
        with kombu.Connection(url, connect_timeout=2) as connection:
            return connection.channel().queue_declare(queue, passive=True).consumer_count > 0
    except (OSError, kombu.exceptions.OperationalError, *kombu.Connection(url).channel_errors):
        return False


end = time.monotonic() + WITHIN_S
for name in sys.argv[2:]:
    while not consumed(sys.argv[1], name):
        if time.monotonic() > end:
            sys.exit(f"nobody takes from queue {name}")
        time.sleep(0.2)
