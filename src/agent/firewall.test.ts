import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeIptables } from '../dataplane/iptables/fake-iptables.fixture.ts';
import type { Backend } from '../dataplane/iptables/tables.ts';
import type { Chain, Rule } from '../render/iptables/rule.ts';
import { Firewall } from './firewall.ts';
import { phases } from './manager.ts';

const signal = AbortSignal.timeout(600_000);
const drop: Rule = { matches: [], action: { kind: 'drop' } };
const jump: Rule = { matches: [], action: { kind: 'jump', chain: 'cali-FORWARD' } };

function chain(name: string, protocol: number): Chain {
  return {
    name,
    rules: [{ matches: [{ kind: 'protocol', protocol }], action: { kind: 'accept' } }],
    ifRefused: { what: `rules of ${name}`, rules: [drop] },
  };
}

/** A firewall with one desired chain and its hook in each family, on iptables in memory. */
function lab(backend: Backend) {
  const iptables = new FakeIptables();
  const firewall = new Firewall({
    families: [4, 6],
    backend,
    runner: iptables,
    changes: {
      poll: () => String(iptables.generation),
      afterOwn: (known, transactions) =>
        backend === 'nft' ? String(Number(known) + transactions) : undefined,
    },
  });
  for (const family of [4, 6]) iptables.chains.set(`${family} filter FORWARD`, []);
  for (const tables of firewall.tables.values()) {
    tables.setChain('filter', chain('cali-FORWARD', 6));
    tables.setHook('filter', { chain: 'FORWARD', inserted: [jump], appended: [] });
  }
  const round = async () => {
    for (const phase of phases) await firewall.apply(phase, signal);
  };
  const hooked = () =>
    [4, 6].filter((family) =>
      iptables.chains
        .get(`${family} filter FORWARD`)
        ?.some((rule) => rule.endsWith('cali-FORWARD')),
    );
  return { iptables, firewall, round, hooked };
}

test('desired state is written in both families, and our own writes are not taken for changes by others', async () => {
  const { iptables, firewall, round, hooked } = lab('nft');
  await round();
  assert.deepEqual(hooked(), [4, 6]);
  assert.equal(firewall.transactions, 2);
  assert.equal(firewall.poll(), false);
  assert.equal(firewall.onEvent({ kind: 'nftables', processId: 1 }), false);
  await round();
  assert.deepEqual([iptables.reads, iptables.generation, firewall.transactions], [2, 2, 2]);
});

test('rules removed by another program are found by polling and by kernel events, restored, and counted as a loss', async () => {
  const { iptables, firewall, round, hooked } = lab('nft');
  await round();
  for (const find of [
    () => firewall.poll(),
    () => firewall.onEvent({ kind: 'nftables', processId: 1 }),
  ]) {
    const lossesBefore = firewall.losses;
    iptables.chains.set('6 filter FORWARD', []);
    iptables.generation++;
    assert.equal(firewall.onEvent({ kind: 'overrun' }), false);
    assert.equal(find(), true);
    await round();
    assert.deepEqual(hooked(), [4, 6]);
    assert.equal(firewall.losses, lossesBefore + 1);
    assert.equal(find(), false);
  }
});

test('any of our first rules in FORWARD that is missing is a loss, and one that is not written yet is none', async () => {
  const { iptables, firewall, round } = lab('nft');
  const accept: Rule = { matches: [], action: { kind: 'accept' } };
  for (const tables of firewall.tables.values()) {
    tables.setHook('filter', { chain: 'FORWARD', inserted: [accept, jump], appended: [] });
  }
  await round();
  const first = iptables.chains.get('4 filter FORWARD')?.slice(0, 1) ?? [];
  iptables.chains.set('4 filter FORWARD', first);
  firewall.resync();
  await round();
  assert.equal(firewall.losses, 1, 'the second rule');
  for (const tables of firewall.tables.values()) {
    tables.setHook('filter', { chain: 'FORWARD', inserted: [drop, accept, jump], appended: [] });
  }
  firewall.resync();
  await round();
  assert.equal(firewall.losses, 1);
});

test('legacy tables are read again after each write, because others may have written at the same time', async () => {
  const { iptables, firewall, round } = lab('legacy');
  await round();
  assert.equal(firewall.poll(), true);
  await round();
  assert.equal(iptables.reads, 4);
  assert.equal(firewall.poll(), false);
  iptables.generation++;
  assert.equal(firewall.poll(), true);
});

test('tables are read only in phase "reading" and written only in phase "tables"', async () => {
  const { iptables, firewall } = lab('nft');
  for (const phase of phases.filter((one) => one !== 'reading' && one !== 'tables')) {
    assert.equal(firewall.apply(phase, signal), undefined, phase);
  }
  assert.equal(iptables.reads, 0);
  await firewall.apply('reading', signal);
  assert.deepEqual([iptables.reads, iptables.generation], [2, 0]);
  await firewall.apply('tables', signal);
  assert.deepEqual([iptables.reads, iptables.generation], [2, 2]);
});

test('a rejected chain is reported until the kernel accepts it; a retry happens on request', async () => {
  const { iptables, firewall, round, hooked } = lab('nft');
  iptables.refused = '-p 132';
  for (const tables of firewall.tables.values()) {
    tables.setChain('filter', chain('cali-sctp', 132));
  }
  await round();
  assert.deepEqual(
    firewall.failures().map(({ what }) => what),
    ['rules of cali-sctp, IPv4', 'rules of cali-sctp, IPv6'],
  );
  assert.deepEqual(hooked(), [4, 6]);
  assert.match(iptables.chains.get('4 filter cali-sctp')?.[0] ?? '', /DROP$/);
  iptables.refused = undefined;
  firewall.retryRefused();
  await round();
  assert.deepEqual(firewall.failures(), []);
  assert.match(
    iptables.chains.get('4 filter cali-sctp')?.[0] ?? '',
    /-p 132 -m comment .*--jump ACCEPT$/,
  );
});
