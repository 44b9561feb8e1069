import assert from 'node:assert/strict';
import { outputOrThrow } from '../process.ts';
import type { Peer } from './peer.ts';
import { nextLook, patienceMs as usualPatienceMs } from '../poll.ts';

/** How one peer tried to reach another. */
export type Way = 'ping' | 'tcp';

/** One attempt of a matrix. */
export interface Attempt {
  readonly from: Peer;
  readonly to: Peer;
  readonly address: string;
  readonly way: Way;
  /** The result, in words for a failure. */
  readonly result: string;
  readonly reached: boolean;
}

/** The pairs that are to reach each other: all, none, or those for which it is true. */
export type Expected = 'all' | 'none' | ((from: Peer, to: Peer, way: Way) => boolean);

/** Options of a check. */
export interface ReachabilityOptions {
  /** By default both. TCP is tried only with a peer that serves. */
  readonly ways?: readonly Way[];
  /** How long to wait for a network that is still converging; by default two minutes. */
  readonly patienceMs?: number;
  /** How long a TCP connection may take, in seconds; by default 1.5. */
  readonly tcpSeconds?: number;
}

/**
 * Checks which peers reach each other, on all addresses, all pairs at the same time. It is repeated until one round is
 * as expected; the failure names every pair of the last round that is not.
 */
export async function reachability(
  peers: readonly Peer[],
  expected: Expected,
  options: ReachabilityOptions = {},
): Promise<void> {
  const { ways = ['ping', 'tcp'], patienceMs = usualPatienceMs, tcpSeconds = 1.5 } = options;
  for (const since = Date.now(); ; await nextLook(since)) {
    const attempts = (
      await Promise.all(peers.map((from) => attemptsFrom(from, peers, { ways, tcpSeconds })))
    ).flat();
    assert.ok(attempts.length > 0, 'no pair to check');
    const wrong = differences(attempts, expected);
    if (wrong.length === 0) return;
    if (Date.now() - since > patienceMs) {
      const count = `${wrong.length} of ${attempts.length} attempts differ from what is expected`;
      assert.fail(`${count}:\n  ${wrong.join('\n  ')}`);
    }
  }
}

/** Returns a sentence for each attempt whose result is not the expected one. */
export function differences(attempts: readonly Attempt[], expected: Expected): readonly string[] {
  return attempts.flatMap(({ from, to, address, way, reached, result }) => {
    const isExpected =
      typeof expected === 'function' ? expected(from, to, way) : expected === 'all';
    if (isExpected === reached) return [];
    const wish = isExpected ? 'must reach' : 'must not reach';
    return [
      `${placeOf(from)} ${wish} ${placeOf(to)} (${address}), and ${way} ${reached ? 'does' : `does not: ${result}`}`,
    ];
  });
}

function placeOf({ name, on }: Peer): string {
  return name === on ? name : `${name} on ${on}`;
}

/**
 * Each attempt is `INDEX WAY ADDRESS NAME`; the answer is `INDEX RESULT`, which for TCP is the name that the server
 * gave, and for ping `reply`.
 */
const prober = `
ping_it() { ping -q -c 3 -i 0.2 -w 1 "$1" >/dev/null 2>&1 && echo reply || echo 'no reply'; }
tcp_it() {
  page=$(timeout "$0" bash -c 'exec 3<>"/dev/tcp/$0/8080" && printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3 && cat <&3' "$1" 2>&1)
  status=$?
  if [ $status = 0 ]; then echo "$page" | tail -n 1
  elif [ $status = 124 ]; then echo 'no answer'
  else echo "\${page##*: }"
  fi
}
while read -r index way address; do
  { result=$("$way"_it "$address"); echo "$index $result"; } &
done
wait
`;

async function attemptsFrom(
  from: Peer,
  peers: readonly Peer[],
  { ways, tcpSeconds }: Required<Pick<ReachabilityOptions, 'ways' | 'tcpSeconds'>>,
): Promise<readonly Attempt[]> {
  const asked = peers
    .filter((to) => to !== from)
    .flatMap((to) =>
      to.addresses.flatMap((address) =>
        ways.filter((way) => way !== 'tcp' || to.serves).map((way) => ({ from, to, address, way })),
      ),
    );
  const input = asked.map(({ way, address }, index) => `${index} ${way} ${address}\n`).join('');
  const argv = ['bash', '-c', prober, String(tcpSeconds)];
  const answers = new Map(
    outputOrThrow(argv, await from.exec(argv, { input }))
      .split('\n')
      .map((line) => {
        const [index = '', ...result] = line.split(' ');
        return [Number(index), result.join(' ')];
      }),
  );
  return asked.map((attempt, index) => {
    const result = answers.get(index) ?? 'no result';
    const reached = attempt.way === 'ping' ? result === 'reply' : result === attempt.to.name;
    const isOther = attempt.way === 'tcp' && !reached && peers.some(({ name }) => name === result);
    return { ...attempt, reached, result: isOther ? `${result} answered` : result };
  });
}
