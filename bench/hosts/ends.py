"""The two ends of a measured path. With fixed costs in both ends, paths are compared by their ratios and differences.

    ends.py serve                     TCP: counts bytes; UDP 5202: echoes; UDP 5203: counts datagrams
                                      and answers those of two bytes
    ends.py measure ADDRESS SECONDS   prints the rates, and the CPU time of both ends
    ends.py echo                      per line "ADDRESS": requests until the first reply; prints "REQUESTS MILLISECONDS"
"""
import json, select, socket, statistics, struct, sys, threading, time

BULK, ECHO, COUNT = 5201, 5202, 5203
RECEIVE_BUFFER_FORCE = 33  # linux/asm-generic/socket.h; missing in the module socket


def serve():
    def bulk():
        listener = socket.create_server(('0.0.0.0', BULK), backlog=8)
        while True:
            connection, _ = listener.accept()
            buffer, total, spent = bytearray(1 << 20), 0, time.thread_time()
            while count := connection.recv_into(buffer):
                total += count
            connection.sendall(b'%d %f' % (total, time.thread_time() - spent))
            connection.close()

    def echo():
        s = bound(ECHO)
        while True:
            data, peer = s.recvfrom(2048)
            s.sendto(data, peer)

    def count():
        s, buffer, total, spent = bound(COUNT), bytearray(2048), 0, time.thread_time()
        while True:
            size, peer = s.recvfrom_into(buffer)
            if size > 2:
                total += 1
                continue
            if size == 2:
                s.sendto(b'hi', peer)
                continue
            s.sendto(b'%d %f' % (total, time.thread_time() - spent), peer)
            total, spent = 0, time.thread_time()

    for work in (bulk, echo, count):
        threading.Thread(target=work, daemon=True).start()
    print('ready', flush=True)
    threading.Event().wait()


def bound(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, RECEIVE_BUFFER_FORCE, 8 << 20)
    s.bind(('0.0.0.0', port))
    return s


def measure(address, seconds):
    connection = socket.create_connection((address, BULK))
    chunk, start, used = bytes(1 << 20), time.monotonic(), time.process_time()
    while time.monotonic() - start < seconds:
        connection.sendall(chunk)
    connection.shutdown(socket.SHUT_WR)
    total, theirs = connection.recv(64).split()
    bits = int(total) * 8
    bit_rate, bit_seconds = bits / (time.monotonic() - start), time.process_time() - used + float(theirs)

    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(1)
    s.connect((address, ECHO))
    trips, start = [], time.monotonic()
    while (began := time.monotonic()) - start < seconds:
        s.send(b'x' * 64)
        s.recv(128)
        trips.append(time.monotonic() - began)

    def datagrams(answered):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(2)
        s.connect((address, COUNT))
        if answered:
            s.send(b'hi')
            s.recv(64)
        return flood(s, seconds)

    rate, cost = datagrams(answered=True)
    _, unanswered = datagrams(answered=False)
    print(json.dumps({
        'bitsPerSecond': bit_rate,
        'roundTripUs': statistics.median(trips) * 1e6,
        'datagramsPerSecond': rate,
        'nsPerKilobyte': bit_seconds / bits * 8e12,
        'usPerDatagram': cost,
        'usPerUnansweredDatagram': unanswered,
    }))


def flood(s, seconds):
    """Returns datagrams received per second, and the CPU time for one in microseconds."""
    small, start, used = b'x' * 64, time.monotonic(), time.process_time()
    sent = 0
    while time.monotonic() - start < seconds:
        for _ in range(100):
            s.send(small)
        sent += 100
    spent, mine = time.monotonic() - start, time.process_time() - used
    time.sleep(0.2)
    s.send(b'?')
    received, theirs = s.recv(64).split()
    received = max(1, int(received))
    # Datagrams that the receiver is too slow for are lost after they have cost the sender its part.
    return received / spent, (mine / sent + float(theirs) / received) * 1e6


def echo():
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    s.setblocking(False)
    number = 0
    print('ready', flush=True)
    for line in sys.stdin:
        address, start, sent = line.strip(), time.monotonic(), 0
        number = (number + 1) & 0xffff
        while time.monotonic() - start < 10:
            packet = struct.pack('!BBHHH', 8, 0, 0, number, sent)
            total = sum(struct.unpack('!4H', packet))
            checksum = ~((total >> 16) + (total & 0xffff)) & 0xffff
            try:
                s.sendto(struct.pack('!BBHHH', 8, 0, checksum, number, sent), (address, 0))
            except OSError:
                pass
            sent += 1
            if answered(s, number, time.monotonic() + 0.02):
                break
        print(sent, (time.monotonic() - start) * 1000, flush=True)


def answered(s, number, deadline):
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([s], [], [], left)[0]:
            return False
        packet = s.recv(2048)
        header = (packet[0] & 15) * 4
        if packet[header] == 0 and struct.unpack('!H', packet[header + 4:header + 6])[0] == number:
            return True
    return False


if sys.argv[1] == 'serve':
    serve()
elif sys.argv[1] == 'measure':
    measure(sys.argv[2], float(sys.argv[3]))
else:
    echo()
