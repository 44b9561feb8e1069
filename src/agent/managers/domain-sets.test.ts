import assert from 'node:assert/strict';
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import packet from 'dns-packet';
import { parseAddress } from '../../ip/address.ts';
import type { EntryValue } from '../../model/kinds/index.ts';
import type { AddressRecord } from '../../names/domain-addresses.ts';
import type { PolicyEngine } from '../../profiles/policy-engine.ts';
import { SavedDomainAddresses } from '../saved-domain-addresses.ts';
import { DomainSets } from './domain-sets.ts';

const silent = { error() {}, warn() {}, info() {}, debug() {} };

function setOf(domains: readonly string[]): EntryValue<'GlobalNetworkSet'> {
  return {
    kind: 'GlobalNetworkSet',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'api', labels: { set: 'api' } },
    spec: { nets: ['192.0.2.0/24'], allowedEgressDomains: [...domains] },
  };
}

type Domains = NonNullable<Parameters<PolicyEngine['setDomains']>[1]>;

/** Network sets with domains, without a kernel; the test decides when its round ends. */
class Lab {
  readonly members = new Map<string, Domains>();
  readonly resolved: string[] = [];
  records: readonly AddressRecord[] | undefined = [
    { address: parseAddress('198.51.100.7'), ttl: 30 },
  ];
  isReachable = true;
  rounds: { end: () => void; fail: () => void }[] = [];
  readonly sets: DomainSets;

  constructor(domainAddressesFile?: string) {
    this.sets = new DomainSets(
      {
        log: silent,
        domainAddressesFile,
        resolvesNames: true,
        resolveTrusted: (name, type) => {
          this.resolved.push(`${name} ${type}`);
          return this.isReachable
            ? Promise.resolve(this.records)
            : Promise.reject(new Error('no server responds'));
        },
        programmed: () => {
          const { promise, resolve, reject } = Promise.withResolvers<void>();
          this.rounds.push({ end: resolve, fail: () => reject(new Error('late')) });
          return promise;
        },
      },
      {
        setDomains: (id, domains) => {
          if (domains === undefined) this.members.delete(id);
          else this.members.set(id, domains);
        },
      },
    );
  }

  set(value: EntryValue<'GlobalNetworkSet'> | undefined, id = 'api'): void {
    const now = value && { id, value, modRevision: 1n };
    this.sets.onChange({ kind: 'GlobalNetworkSet', id, before: undefined, now });
  }

  /** The addresses of each set. */
  addresses(): readonly (readonly string[])[] {
    return Array.from(this.members.values(), ({ addresses }) => addresses);
  }

  ask(
    name: string,
    type: packet.RecordType = 'A',
    container = 'one',
  ): Promise<Buffer | undefined> | undefined {
    const query = packet.encode({ type: 'query', id: 7, questions: [{ name, type }] });
    return this.sets.respond(query, 'udp', container);
  }
}

test('an answer is held back until the kernel has the addresses, which are members by the labels of the set', async () => {
  const lab = new Lab();
  lab.set(setOf(['*.example.com']));
  const answer = lab.ask('api.example.com') ?? assert.fail('it is of the set');
  let isAnswered = false;
  void answer.then(() => (isAnswered = true));
  await new Promise((resolve) => setImmediate(resolve));
  const [member] = lab.members.values();
  assert.deepEqual(member?.set.metadata.labels, { set: 'api' });
  assert.deepEqual(member?.addresses, ['198.51.100.7']);
  assert.equal(isAnswered, false);
  const second = lab.ask('api.example.com');
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(lab.rounds.length, 2, 'the second has to wait as well');
  for (const round of lab.rounds) round.end();
  const decoded = packet.decode((await answer) ?? assert.fail('there is an answer'));
  assert.deepEqual(
    decoded.answers?.map((one) => one.type === 'A' && [one.data, one.ttl]),
    [['198.51.100.7', 30]],
  );
  assert.ok(await second);
  assert.ok(await lab.ask('api.example.com'), 'then the kernel has them');
  assert.equal(lab.rounds.length, 2);
});

test('an answer with addresses that came during a round waits for the next one', async () => {
  const lab = new Lab();
  lab.set(setOf(['*.example.com']));
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const first = lab.ask('a.example.com');
  await turn();
  lab.records = [{ address: parseAddress('198.51.100.8'), ttl: 30 }];
  void lab.ask('b.example.com');
  await turn();
  lab.rounds[0]?.end();
  assert.ok(await first);
  void lab.ask('b.example.com');
  await turn();
  assert.equal(lab.rounds.length, 3);
});

test('if the kernel is late, Docker answers, and the next answer waits again', async () => {
  const lab = new Lab();
  lab.set(setOf(['api.example.com']));
  const answer = lab.ask('api.example.com');
  await new Promise((resolve) => setImmediate(resolve));
  lab.rounds[0]?.fail();
  assert.equal(await answer, undefined);
  const [check] = lab.sets.checks();
  assert.equal(check?.ok, false);
  const second = lab.ask('api.example.com');
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(lab.rounds.length, 2);
  lab.rounds[1]?.end();
  assert.ok(await second);
  assert.equal(lab.sets.checks()[0]?.ok, true);
});

test('names of no set, other types, and names of a set that is gone are left to Docker', async () => {
  const lab = new Lab();
  let first = 0;
  lab.sets.onFirst = () => first++;
  assert.equal(lab.ask('api.example.com'), undefined);
  assert.deepEqual(lab.sets.checks(), []);
  lab.set(setOf(['api.example.com', 'not a domain']));
  assert.equal(first, 1);
  assert.equal(lab.ask('other.example.com'), undefined);
  assert.equal(lab.ask('api.example.com', 'TXT'), undefined);
  void lab.ask('api.example.com');
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(lab.members.size, 1);
  lab.set(undefined);
  assert.equal(lab.members.size, 0);
  assert.equal(lab.ask('api.example.com'), undefined);
  assert.deepEqual(lab.resolved, ['api.example.com A']);
});

test('a name that does not exist is left to Docker and is no problem, unlike servers that do not respond', async () => {
  const lab = new Lab();
  lab.set(setOf(['*.example.com']));
  const isHealthy = () => lab.sets.checks().every(({ ok }) => ok);
  lab.records = undefined;
  assert.equal(await lab.ask('none.example.com'), undefined);
  assert.ok(isHealthy());
  lab.isReachable = false;
  assert.equal(await lab.ask('api.example.com'), undefined);
  assert.ok(!isHealthy());
});

test('addresses are kept in a file, and are members again after a restart until they expire', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'domain-addresses-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'domain-addresses.json');
  t.mock.timers.enable({ apis: ['Date'] });
  const resolve = async (lab: Lab, name: string, address: string, ttl: number) => {
    lab.records = [{ address: parseAddress(address), ttl }];
    const answer = lab.ask(name);
    await new Promise((done) => setImmediate(done));
    lab.rounds.at(-1)?.end();
    assert.ok(await answer);
  };
  const open = () => {
    const lab = new Lab(file);
    lab.sets.start();
    return lab;
  };
  const first = open();
  first.set(setOf(['*.example.com']));
  first.set(setOf(['*.example.org']), 'other');
  await resolve(first, 'short.example.com', '198.51.100.7', 1);
  await resolve(first, 'api.example.com', '2001:db8::7', 86_400);
  await resolve(first, 'www.example.org', '198.51.100.8', 600);
  first.sets.stop();

  t.mock.timers.tick(89_000);
  const second = open();
  // The sets of the datastore are read one after the other.
  second.set(setOf(['*.example.org']), 'other');
  assert.deepEqual(second.addresses(), [['198.51.100.8']]);
  second.set(setOf(['*.example.com']));
  assert.deepEqual(second.addresses(), [['198.51.100.8'], ['198.51.100.7', '2001:db8::7']]);
  t.mock.timers.tick(1000);
  assert.ok(second.sets.poll(), 'the address of the shortest TTL has expired');
  assert.deepEqual(second.addresses(), [['198.51.100.8'], ['2001:db8::7']]);
  // It was killed before its datastore responded: what no set has claimed is still in the file.
  const third = open();
  third.set(setOf(['*.example.org']), 'other');
  await resolve(third, 'new.example.org', '198.51.100.9', 600);
  t.mock.timers.tick(1000);
  third.sets.poll();
  const saved = () => readFileSync(file, 'utf8');
  for (let tries = 0; !saved().includes('198.51.100.9'); tries++) {
    assert.ok(tries < 3000);
    await pause(1);
  }
  t.mock.timers.tick(600_000);
  const fourth = open();
  fourth.set(setOf(['*.example.com', '*.example.org']));
  assert.deepEqual(fourth.addresses(), [['198.51.100.9', '2001:db8::7']]);
  t.mock.timers.tick(3_630_000);
  const last = open();
  last.set(setOf(['*.example.com', '*.example.org']));
  assert.deepEqual(last.addresses(), [[]]);
  fourth.sets.poll();
  fourth.sets.stop();
  // A connection to an address that has expired is known as one to its name.
  const fifth = open();
  fifth.set(setOf(['*.example.com']));
  assert.deepEqual(fifth.addresses(), [[]]);
  for (const [address, sets] of [
    ['2001:db8::7', ['GlobalNetworkSet api']],
    ['198.51.100.9', []],
    ['198.51.100.10', []],
  ] as const) {
    assert.deepEqual(fifth.sets.formerSetsOf(parseAddress(address)), sets);
  }
  fifth.set(setOf(['*.example.org']));
  assert.deepEqual(fifth.sets.formerSetsOf(parseAddress('2001:db8::7')), []);
});

test('a container whose names are slow leaves room for the names of others', async () => {
  const lab = new Lab();
  lab.set(setOf(['*.example.com']));
  for (let n = 0; n < 300; n++) void lab.ask(`slow${n}.example.com`);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(lab.ask('api.example.com'), undefined);
  const answer = lab.ask('api.example.com', 'A', 'other');
  await new Promise((resolve) => setImmediate(resolve));
  for (const round of lab.rounds) round.end();
  assert.ok(await answer);
  assert.ok(lab.ask('again.example.com'), 'the first has room again');
});

test('a file that cannot be written does not disturb the stop', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'domain-addresses-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'file'), '');
  const warned: string[] = [];
  const saved = new SavedDomainAddresses({
    file: join(folder, 'file', 'domain-addresses.json'),
    log: { warn: (what) => warned.push(what) },
    present: () => [
      {
        name: 'api.example.com',
        addresses: [{ address: parseAddress('198.51.100.7'), until: 9e15 }],
      },
    ],
  });
  saved.start(0);
  saved.changed('new', 0);
  saved.stop();
  assert.match(warned.at(-1) ?? '', /cannot save addresses of domain names/);
});

test('a file that is too large, or no file, is not read', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'domain-addresses-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const large = join(folder, 'large');
  writeFileSync(large, '');
  truncateSync(large, 2 ** 28);
  for (const [file, why] of [
    [large, /268435456 bytes/],
    [folder, /EISDIR/],
  ] as const) {
    const warned: string[] = [];
    const log = { warn: (what: string) => warned.push(what) };
    new SavedDomainAddresses({ file, log, present: () => [] }).start(0);
    assert.match(warned.join('\n'), why);
  }
});

test('an address that is resolved while the file is written is saved by the stop', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'domain-addresses-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'domain-addresses.json');
  const addresses = [{ address: parseAddress('198.51.100.7'), until: 9e15 }];
  const names = [{ name: 'first.example.com', addresses }];
  const saved = new SavedDomainAddresses({ file, log: silent, present: () => names });
  saved.start(0);
  saved.changed('new', 0);
  saved.poll(1000);
  names.push({ name: 'second.example.com', addresses });
  saved.changed('new', 1000);
  saved.stop();
  const content = () => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  for (let tries = 0; !content().includes('second.example.com'); tries++) {
    assert.ok(tries < 3000);
    await pause(1);
  }
  assert.ok(content().includes('first.example.com'));
});

test('a clock that is set back while the daemon runs delays neither the file nor the expiry', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'domain-addresses-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'domain-addresses.json');
  t.mock.timers.enable({ apis: ['Date'], now: 1e12 });
  const lab = new Lab(file);
  lab.sets.start();
  lab.set(setOf(['api.example.com']));
  const answer = lab.ask('api.example.com');
  await new Promise((resolve) => setImmediate(resolve));
  lab.rounds[0]?.end();
  assert.ok(await answer);
  t.mock.timers.setTime(5e11);
  lab.sets.poll();
  t.mock.timers.tick(60_000);
  lab.sets.poll();
  for (let tries = 0; !existsSync(file); tries++) {
    assert.ok(tries < 3000);
    await pause(1);
  }
  assert.deepEqual(lab.addresses(), [['198.51.100.7']]);
  t.mock.timers.tick(3_600_000);
  lab.sets.poll();
  assert.deepEqual(lab.addresses(), [[]]);
});

test('a damaged file, and times of a clock that was set back, keep nothing for longer than a TTL may', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'domain-addresses-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'domain-addresses.json');
  t.mock.timers.enable({ apis: ['Date'] });
  const addresses = [{ address: '198.51.100.7', until: 1e15 }];
  const names = [{ name: 'api.example.com', addresses }];
  for (const [content, kept] of [
    ['{"format": 1, "names": [{"na', []],
    [JSON.stringify({ format: 2, names }), []],
    [JSON.stringify({ format: 1, names }), ['198.51.100.7']],
  ] as const) {
    writeFileSync(file, content);
    const lab = new Lab(file);
    lab.sets.start();
    lab.set(setOf(['api.example.com']));
    assert.deepEqual(lab.addresses(), [kept]);
    t.mock.timers.tick(3_630_000);
    lab.sets.poll();
    assert.deepEqual(lab.addresses(), [[]]);
  }
});
