"""Programs for the python3 of a node. Each measures for three seconds after one of warming up, and prints JSON."""

from __future__ import annotations

#: Arguments: directions. Reads and writes past the caches, 4 KiB at random for IOPS, 256 KiB for bytes, 8 threads.
MEASURE_DISK = """
import json, mmap, os, random, sys, threading, time
PATH, SIZE = "/var/tmp/greenroom-qos", 16 << 20
def rate(name):
    block = 4096 if name.endswith("iops") else 256 << 10
    counts, begin = [0] * 8, time.monotonic() + 1
    def work(i):
        buffer = mmap.mmap(-1, block)
        while time.monotonic() < begin + 3:
            place = random.randrange(SIZE // block) * block
            if "write" in name: os.pwritev(file, [buffer], place)
            else: os.preadv(file, [buffer], place)
            counts[i] += begin <= time.monotonic() < begin + 3
    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return sum(counts) * (1 if block == 4096 else block) / 3
with open(PATH, "wb") as made:
    made.write(os.urandom(SIZE)); made.flush(); os.fsync(made.fileno())
try:
    file = os.open(PATH, os.O_RDWR | os.O_DIRECT)
    print(json.dumps({name: rate(name) for name in sys.argv[1:]}))
finally:
    os.unlink(PATH)
"""
#: Prints the bits a second that arrive from one sender, Ethernet's and TCP's headers not counted.
RECEIVE = """
import json, socket, time
with socket.create_server(("", 45873)) as server:
    server.settimeout(30)
    link, _ = server.accept()
begin, count = time.monotonic() + 1, 0
while got := len(link.recv(1 << 16)):
    if begin <= time.monotonic() < begin + 3: count += got
print(json.dumps({"bits": count * 8 / 3}))
"""
#: Argument: the receiver's address.
SEND = """
import socket, sys, time
deadline = time.monotonic() + 20
while True:
    try: link = socket.create_connection((sys.argv[1], 45873), 5); break
    except OSError:
        if time.monotonic() > deadline: raise
        time.sleep(0.1)
end, piece = time.monotonic() + 4.5, bytes(1 << 14)
while time.monotonic() < end: link.sendall(piece)
link.close()
print("{}")
"""
