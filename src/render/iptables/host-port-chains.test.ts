import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../ip/address.ts';
import type { Chain } from './rule.ts';
import type { PublishedPort } from '../../ruleset/published-port.ts';
import { HostPortChains } from './host-port-chains.ts';

const any = parseAddress('0.0.0.0');

function rule(hostPort: number, protocol: PublishedPort['protocol'] = 'TCP'): PublishedPort {
  const address = parseAddress('10.65.0.1');
  return { protocol, hostIp: any, hostPort, address, port: 80, isAdmitted: true };
}

/** The present chains, and the number of lines written since the last read. */
function collect() {
  const chains = new Map<string, Chain>();
  let lines = 0;
  const made = new HostPortChains({
    setChain: (chain) => {
      lines += 1 + chain.rules.length;
      chains.set(chain.name, chain);
    },
    removeChain: (name) => {
      lines++;
      chains.delete(name);
    },
  });
  made.start();
  const linesSince = () => {
    const since = lines;
    lines = 0;
    return since;
  };
  return { made, chains, linesSince };
}

/** Follows the chains for a new connection as the kernel does. */
function follow(chains: ReadonlyMap<string, Chain>, protocol: number, port: number): number {
  let at: string | undefined = 'cali-host-ports';
  while (at !== undefined) {
    const found: Chain['rules'][number] | undefined = chains.get(at)?.rules.find(({ matches }) =>
      matches.every((match) => {
        if (match.kind === 'protocol') return match.protocol === protocol;
        if (match.kind !== 'destinationPorts') return true;
        return match.ports.some(({ first, last }) => first <= port && port <= last);
      }),
    );
    if (found?.action.kind === 'destinationNat') return found.action.port;
    at = found?.action.kind === 'goto' ? found.action.chain : undefined;
  }
  return 0;
}

const ports = fc.uniqueArray(fc.integer({ min: 1, max: 65_535 }), { maxLength: 60 });

test('every published port is found, and no other', () => {
  fc.assert(
    fc.property(ports, fc.integer({ min: 1, max: 65_535 }), (published, other) => {
      const { made, chains } = collect();
      made.change(
        [],
        published.map((port) => rule(port)),
      );
      for (const port of published) assert.equal(follow(chains, 6, port), 80);
      assert.equal(follow(chains, 17, other), 0);
      if (!published.includes(other)) assert.equal(follow(chains, 6, other), 0);
    }),
  );
});

test('the chains depend on the present ports alone, in whatever order they were added', () => {
  fc.assert(
    fc.property(ports, ports, (first, second) => {
      const [long, short] = [collect(), collect()];
      for (const port of first) long.made.change([], [rule(port)]);
      long.made.change(
        first.map((port) => rule(port)),
        second.map((port) => rule(port)),
      );
      short.made.change(
        [],
        second.toReversed().map((port) => rule(port)),
      );
      assert.deepEqual(
        [...long.chains].toSorted(([a], [b]) => (a < b ? -1 : 1)),
        [...short.chains].toSorted(([a], [b]) => (a < b ? -1 : 1)),
      );
    }),
  );
});

test('one more port writes few lines, however many there are', () => {
  const { made, linesSince } = collect();
  linesSince();
  made.change([], [rule(8080)]);
  const onEmpty = linesSince();
  made.change(
    [],
    Array.from({ length: 30_000 }, (_, index) => rule(20_000 + index)),
  );
  linesSince();
  made.change([], [rule(8081)]);
  assert.ok(linesSince() <= onEmpty, 'beside others');
  made.change([], [rule(60_000)]);
  // A chain has at most sixteen lines for a protocol, and a lookup passes four chains.
  assert.ok(linesSince() <= 4 * 17);
});

test('a port that is left to the rules has its connections unmarked before they are translated', () => {
  const { made, chains } = collect();
  made.change([], [{ ...rule(8080), isAdmitted: false }]);
  assert.deepEqual(
    chains.get('cali-host-ports-6-1f9')?.rules.map(({ action }) => action.kind),
    ['clearConnectionMark', 'destinationNat'],
  );
});
