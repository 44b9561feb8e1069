import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { ended, tracked } from '../children.ts';
import type { Machine } from '../machine.ts';

/** Which packets a cut cable drops; by default all. */
export interface Cut {
  /** Only those that the host sends, or only those that it is sent. */
  readonly way?: 'from host' | 'to host';
  /** Only TCP and UDP with this source or destination port. */
  readonly port?: number;
}

/** How a slow cable treats packets, in each direction. */
export interface Slowness {
  /** The time that each packet takes longer, in milliseconds; a round trip twice that. */
  readonly delayMs?: number;
  readonly lossPercent?: number;
}

/**
 * The cable of a host, between its eth0 and the switch. Its faults are at the switch, out of reach of the host and its
 * firewall: a cut cable drops without a trace, and the host keeps its carrier.
 */
export class Cable implements AsyncDisposable {
  readonly #fabric: Machine;
  readonly #end: string;
  readonly #bridge: string;
  #cuts: readonly Cut[] = [];
  #delayLine: ChildProcess | undefined;

  /** The end of the cable is a link of the fabric, which is a port of the bridge. */
  constructor(fabric: Machine, at: { readonly end: string; readonly bridge: string }) {
    this.#fabric = fabric;
    this.#end = at.end;
    this.#bridge = at.bridge;
  }

  /** Drops packets from now on, in addition to those of earlier cuts. */
  async cut(cut: Cut = {}): Promise<void> {
    await this.#setCuts([...this.#cuts, cut]);
  }

  /** Delays and loses packets from now on, instead of as before. */
  async slow({ delayMs = 0, lossPercent = 0 }: Slowness): Promise<void> {
    await this.#removeDelayLine();
    const [port, line] = [`slow-${this.#end}`, `line-${this.#end}`];
    await this.#ip([
      `link add ${port} type veth peer name ${line}`,
      ...[port, line].map((link) => `link set ${link} addrgenmode none up`),
      `link set ${this.#end} nomaster`,
      `link set ${port} master ${this.#bridge}`,
    ]);
    const argv = [this.#end, line, delayMs / 1000, lossPercent / 100].map(String);
    this.#delayLine = await startDelayLine(this.#fabric, argv);
    await this.#setCuts(this.#cuts);
  }

  /** Ends all faults. */
  async mend(): Promise<void> {
    await this.#removeDelayLine();
    await this.#setCuts([]);
    await this.plug(true);
  }

  /** Takes the host's carrier away, or gives it back. */
  async plug(isPlugged: boolean): Promise<void> {
    await this.#ip([`link set ${this.#end} ${isPlugged ? 'up' : 'down'}`]);
  }

  /** Ends what runs for it; its end may be gone already. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (await this.#endDelayLine()) await this.#ip([`link del slow-${this.#end}`]);
  }

  async #setCuts(cuts: readonly Cut[]): Promise<void> {
    this.#cuts = cuts;
    const port = this.#delayLine === undefined ? this.#end : `slow-${this.#end}`;
    const input = cutRules(`cut-${this.#end}`, port, cuts);
    await this.#fabric.run(['nft', '-f', '-'], { input });
  }

  async #removeDelayLine(): Promise<void> {
    if (!(await this.#endDelayLine())) return;
    await this.#ip([`link del slow-${this.#end}`, `link set ${this.#end} master ${this.#bridge}`]);
    await this.#setCuts(this.#cuts);
  }

  /** Reports whether there was one. */
  async #endDelayLine(): Promise<boolean> {
    const line = this.#delayLine;
    this.#delayLine = undefined;
    if (line === undefined) return false;
    line.stdin?.end();
    await ended('delay line', line);
    return true;
  }

  async #ip(lines: readonly string[]): Promise<void> {
    await this.#fabric.run(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }
}

/** Returns the ruleset that replaces the cuts of a port of the switch. */
function cutRules(name: string, port: string, cuts: readonly Cut[]): string {
  const chain = (hook: 'egress' | 'ingress', way: Cut['way']) => `
  chain ${hook} {
    type filter hook ${hook} device "${port}" priority 0
    ${cuts
      .filter((cut) => cut.way === undefined || cut.way === way)
      .flatMap(({ port: number }) =>
        number === undefined
          ? ['drop']
          : ['sport', 'dport'].map((end) => `meta l4proto { tcp, udp } th ${end} ${number} drop`),
      )
      .join('\n    ')}
  }`;
  return `
table netdev ${name}
delete table netdev ${name}
table netdev ${name} {${chain('ingress', 'from host')}${chain('egress', 'to host')}
}
`;
}

/**
 * Relays all frames between two links, each after a delay, until its input ends. Not every kernel has netem. The
 * virtio header keeps unfinished checksums and segments that are yet to be cut.
 */
const delayLine = `
import heapq, random, select, socket, struct, sys, time
def link(name):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    packet, ignore_outgoing, vnet_hdr, add_membership = 263, 23, 15, 1
    s.setsockopt(packet, ignore_outgoing, 1)
    s.setsockopt(packet, vnet_hdr, 1)
    promiscuous = struct.pack('IHH8x', socket.if_nametoindex(name), 1, 0)
    s.setsockopt(packet, add_membership, promiscuous)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.bind((name, 3))
    s.setblocking(False)
    return s
one, other = link(sys.argv[1]), link(sys.argv[2])
delay, loss = float(sys.argv[3]), float(sys.argv[4])
to, queue, number = {one: other, other: one}, [], 0
print('ready', flush=True)
while True:
    wait = max(0, queue[0][0] - time.monotonic()) if queue else None
    readable, _, _ = select.select([one, other, sys.stdin], [], [], wait)
    if sys.stdin in readable: break
    for source in readable:
        try:
            frame = source.recv(70000)
        except OSError: continue
        if random.random() < loss: continue
        number += 1
        heapq.heappush(queue, (time.monotonic() + delay, number, to[source], frame))
    while queue and queue[0][0] <= time.monotonic():
        _, _, target, frame = heapq.heappop(queue)
        try: target.send(frame)
        except OSError: pass
`;

async function startDelayLine(fabric: Machine, argv: readonly string[]): Promise<ChildProcess> {
  const [command = '', ...rest] = [...fabric.enterNetwork, 'python3', '-c', delayLine, ...argv];
  const line = tracked('delay line', spawn(command, rest, { stdio: ['pipe', 'pipe', 'inherit'] }));
  await Promise.race([once(line.stdout, 'data'), once(line, 'exit')]);
  if (line.exitCode !== null) throw new Error('the delay line did not start');
  return line;
}
