import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { stringify } from 'yaml';
import type { Backend } from '../../src/dataplane/iptables/tables.ts';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { DifferenceLab } from '../lab/difference/lab.ts';
import { entriesOf } from '../lab/difference/resources.ts';
import { Rounds, type Decision } from '../lab/difference/rounds.ts';
import { smaller } from '../lab/difference/shrink.ts';
import type { HostsWorld } from '../lab/difference/walk.ts';
import { drawn, hostsWorld } from '../lab/difference/worlds.ts';

/** How many packets the kernel judges by each firewall, and how many first packets for each set of resources. */
const decisions = Number(process.env['CALICO_TEST_DECISIONS'] ?? 5000);
const packetsOfWorld = 60;
/** How long smaller resources that fail are looked for. */
const shrinkingMs = 180_000;
const seed = Number(process.env['CALICO_TEST_SEED'] ?? 1);

const libc = loadLibc();

for (const backend of ['nft', 'legacy'] as const) {
  describe(`policies of two hosts, iptables-${backend}`, { timeout: 36_000_000 }, () =>
    agrees(backend),
  );
}

function agrees(backend: Backend): void {
  let lab: DifferenceLab;
  before(async () => {
    lab = await DifferenceLab.start(libc, `calico-diff-${process.pid}`, backend);
  });
  after(async () => lab[Symbol.asyncDispose]());

  test('the kernel does with every packet what the resources say, read naively', async () => {
    const rounds = new Rounds(lab);
    const counts = new Map<string, number>();
    const started = performance.now();
    const least = backend === 'nft' ? decisions : decisions / 5;
    let decided = 0;
    for (let run = 0; decided < least; run++) {
      const [world] = fc.sample(hostsWorld, { seed: seed * 100_000 + run, numRuns: 1 });
      const packets = fc.sample(drawn, { seed: seed * 100_000 + run, numRuns: packetsOfWorld });
      assert.ok(world !== undefined);
      await lab.set(world);
      const results = await rounds.run(world, packets);
      for (const one of results) count(counts, one);
      decided += results.length;
      const wrong = results.find(isWrong);
      if (wrong !== undefined) {
        console.log(`run ${run}: ${textOf(wrong)}`);
        assert.fail(await shrunk(world, wrong));
      }
    }
    const seconds = (performance.now() - started) / 1000;
    const shown = [...counts]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([what, number]) => `${what}: ${number}`);
    console.log(
      `${decided} decisions, ${Math.round(decided / seconds)} each second\n${shown.join('\n')}`,
    );
    for (const part of [
      'first allowed',
      'first denied',
      'reply allowed',
      'again allowed',
      'error allowed',
      'forged error allowed',
      'forged error denied',
      'fragments allowed',
      'options denied',
    ]) {
      assert.ok((counts.get(part) ?? 0) > 0, `${part}: none of ${decided}`);
    }
  });

  /** Returns the smallest resources found for which the kernel decides wrongly on a packet. */
  async function shrunk(of: HostsWorld, decision: Decision): Promise<string> {
    const { packet, from } = decision.sent;
    const failing = async (world: HostsWorld): Promise<Decision | undefined> => {
      await lab.set(world);
      const results = await new Rounds(lab, 500).run(world, [decision.drawn]);
      return results.find(isWrong);
    };
    const end = Date.now() + shrinkingMs;
    let [world, found] = [of, await failing(of)];
    if (found === undefined) {
      return `not again, alone: ${textOf(decision)} sent by ${from}: ${JSON.stringify(packet)}\n${yamlOf(of)}`;
    }
    for (let isSmaller = true; isSmaller;) {
      isSmaller = false;
      for (const one of smaller(world)) {
        if (Date.now() > end) break;
        const again = await failing(one);
        if (again === undefined) continue;
        [world, found, isSmaller] = [one, again, true];
        break;
      }
    }
    return `${textOf(found)}\n${yamlOf(world)}`;
  }
}

function isWrong({ expected, actual }: Decision): boolean {
  return expected !== actual;
}

function count(
  counts: Map<string, number>,
  { sent: { packet }, drawn: { sequel }, expected }: Decision,
): void {
  const verdict = expected === undefined ? 'denied' : 'allowed';
  const what = packet.quoted === undefined ? packet.part : sequel;
  for (const key of [
    `${what} ${verdict}`,
    `${packet.shape} ${verdict}`,
    `protocol ${packet.protocol} ${verdict}`,
  ]) {
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
}

function textOf({ sent: { packet, from }, expected, actual }: Decision): string {
  const place = (one: string | undefined) =>
    one === undefined ? 'does not arrive' : `arrives at ${one}`;
  return `from ${from}: ${stringify(packet)}must: it ${place(expected)}\ndoes: it ${place(actual)}`;
}

function yamlOf(world: HostsWorld): string {
  return entriesOf(world)
    .map(({ value }) => stringify(value))
    .join('---\n');
}
