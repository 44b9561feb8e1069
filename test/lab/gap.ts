import type { NetworkLab } from './network-lab.ts';

/** The number of connections that succeeded of those a container tried every 5 ms, and the period. */
export interface Gap {
  readonly tried: number;
  readonly made: number;
  /** Time from the first to the last connection that succeeded, in milliseconds; 0 if there was none. */
  readonly lengthMs: number;
}

/** Runs in a container's network: opens a connection every 5 ms until its input ends. */
const prober = `
import socket, sys, select, time, errno
to = (sys.argv[1], 8080)
tried, made, times, open_ = 0, 0, [], {}
poll = select.poll()
print('ready', flush=True)
while True:
    one = socket.socket(); one.setblocking(False)
    try: one.connect(to)
    except BlockingIOError: pass
    except OSError: one.close(); continue
    tried += 1; now = time.monotonic()
    open_[one.fileno()] = (one, now); poll.register(one, select.POLLOUT | select.POLLERR)
    for fd, _ in poll.poll(5):
        sock, since = open_.pop(fd); poll.unregister(fd)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0: made += 1; times.append(since)
        sock.close()
    for fd in [fd for fd, (_, since) in open_.items() if now - since > 0.3]:
        sock, _ = open_.pop(fd); poll.unregister(fd); sock.close()
    if select.select([sys.stdin], [], [], 0.005)[0]: break
print(tried, made, round((times[-1] - times[0]) * 1000) if times else 0)
`;

/** Measures connections from a container to an address during a change of the firewall, and a second longer. */
export async function gapDuring(
  lab: NetworkLab,
  { from, to }: { readonly from: string; readonly to: string },
  happens: () => Promise<unknown>,
): Promise<Gap> {
  const pid = await lab.docker('inspect', '-f', '{{.State.Pid}}', from);
  await lab.host.run(
    ['sh', '-c', 'cat >/run/prober.py; rm -f /run/prober.end; mkfifo /run/prober.end'],
    {
      input: prober,
    },
  );
  const command = `exec nsenter -t ${pid} -n python3 /run/prober.py ${to} <>/run/prober.end`;
  const running = lab.host.spawn(['sh', '-c', command]);
  await lab.eventually(async () => running.output().includes('ready'));
  await happens();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await lab.host.run(['sh', '-c', 'echo >/run/prober.end']);
  await running.exited;
  const [tried = 0, made = 0, lengthMs = 0] = (running.output().split('\n')[1] ?? '')
    .split(' ')
    .map(Number);
  return { tried, made, lengthMs };
}
