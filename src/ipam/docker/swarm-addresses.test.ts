import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { allocatedAddresses } from '../records/block.ts';
import { reclaim, findLeaks, type SwarmFacts } from '../maintenance/reclaim.ts';
import { gatewayOf, signal, withIpam, type Lab } from '../ipam-lab.fixture.ts';
import { swarmAddressSpace } from './network-addresses.ts';
import { checkIpam } from '../maintenance/report.ts';

const hosts = ['host-a', 'host-b'] as const;
type HostName = (typeof hosts)[number];
const network = 'swarm-network-of-25-chars';
const isTaken = { code: 'ipam/address-taken' };

/** A task of the model, with the present owners of its address. */
interface Task {
  readonly address: string;
  isClaimed: boolean;
  runs: { readonly host: HostName; readonly endpoint: string; readonly poolId: string } | undefined;
}

/** Swarm on two hosts, both managers and workers, with one network, in addition to local Docker networks. */
class Swarm {
  readonly lab: Lab;
  readonly subnet: string | undefined;
  leader: HostName = 'host-a';
  #poolId = '';
  #gateway = '';
  #cidr = '';
  readonly #former: { readonly host: HostName; readonly poolId: string }[] = [];
  readonly #networks = new Map<HostName, string>();
  readonly #released: { readonly host: HostName; readonly poolId: string; address: string }[] = [];
  readonly tasks: Task[] = [];
  readonly plain = new Map<string, { readonly host: HostName; readonly poolId: string }>();
  #made = 0;

  constructor(lab: Lab, subnet: string | undefined) {
    this.lab = lab;
    this.subnet = subnet;
  }

  /** A manager becomes leader: it requests the pool and all addresses of tasks again, except of those in `ended`. */
  async lead(host: HostName, ended: readonly Task[] = []): Promise<void> {
    if (this.#poolId !== '') this.#former.push({ host: this.leader, poolId: this.#poolId });
    this.leader = host;
    const isFirst = this.#gateway === '';
    const asked = isFirst ? this.subnet : this.#cidr;
    const pool = await this.lab.pool(host, asked, undefined, swarmAddressSpace);
    this.#poolId = String(pool['PoolID']);
    this.#cidr = String(pool['Pool']);
    if (isFirst) this.#gateway = gatewayOf(pool).split('/')[0] ?? '';
    else assert.equal(await this.#askGateway(host, this.#poolId), this.#gateway);
    await this.lab.allocate(host, network, this.#cidr, this.#gateway);
    for (const task of this.tasks.filter(({ isClaimed }) => isClaimed)) {
      if (ended.includes(task)) task.isClaimed = false;
      else assert.equal(await this.#claim(task.address), task.address);
    }
  }

  async start(): Promise<void> {
    const address = await this.#claim().catch((error: unknown) => {
      assert.ok(this.inUse().size >= 56, `there are free addresses: ${String(error)}`);
      return undefined;
    });
    if (address === undefined) return;
    assert.ok(!this.inUse().has(address), `${address} has two owners`);
    this.tasks.push({ address, isClaimed: true, runs: undefined });
  }

  /** Starts the task on a host, which creates the network if it does not have it. */
  async run(task: Task, host: HostName): Promise<void> {
    if (task.runs !== undefined || !task.isClaimed) return;
    const poolId = this.#networks.get(host) ?? (await this.restart(host));
    const endpoint = `endpoint${this.#made++}`;
    await this.lab.address(host, poolId, task.address);
    await this.lab.connect(host, network, { endpointId: endpoint, address: task.address });
    task.runs = { host, endpoint, poolId };
  }

  /** Restarts Docker on a host: its tasks stop, and the network is recreated with the same ID. */
  async restart(host: HostName): Promise<string> {
    for (const task of this.tasks) if (task.runs?.host === host) await this.stop(task);
    const pool = await this.lab.pool(host, this.#cidr);
    const poolId = String(pool['PoolID']);
    const gateway = await this.#askGateway(host, poolId);
    const Data = { 'com.docker.network.gateway': `${gateway}/32` };
    await this.lab.adopt(host, network, [{ ...pool, Data }]);
    this.#networks.set(host, poolId);
    return poolId;
  }

  async stop(task: Task): Promise<void> {
    if (task.runs === undefined) return;
    const { host, endpoint, poolId } = task.runs;
    task.runs = undefined;
    await this.lab.disconnect(host, endpoint);
    await this.lab.release(host, poolId, task.address);
    this.#released.push({ host, poolId, address: task.address });
  }

  async end(task: Task): Promise<void> {
    if (!task.isClaimed) return;
    task.isClaimed = false;
    await this.lab.release(this.leader, this.#poolId, task.address);
    this.#released.push({ host: this.leader, poolId: this.#poolId, address: task.address });
  }

  /** A repeated release, or one from a former leader, when the address may have another owner. */
  async releaseAgain(pick: number): Promise<void> {
    const again = [...this.#released, ...this.#former.map((one) => ({ ...one, address: '' }))];
    const { host, poolId, address } = again[pick % again.length] ?? {};
    if (host === undefined || poolId === undefined) return;
    const task = this.tasks[pick % this.tasks.length];
    const released = address === '' ? (task?.address ?? '10.65.0.9') : (address ?? '');
    const isHeldByIt = this.tasks.some(
      (one) =>
        one.address === released &&
        ((one.isClaimed && poolId === this.#poolId) || one.runs?.poolId === poolId),
    );
    if (!isHeldByIt) await this.lab.release(host, poolId, released);
  }

  /** Starts a container on a local network of a host, on the same IP pools. */
  async startPlain(host: HostName, wanted: string | undefined): Promise<void> {
    const poolId = String((await this.lab.pool(host, this.subnet))['PoolID']);
    const address = await this.lab.address(host, poolId, wanted).catch((error: unknown) => {
      const isRight =
        wanted === undefined ? this.inUse().size >= 56 : this.allocation().has(wanted);
      assert.ok(isRight, String(error));
      return undefined;
    });
    if (address === undefined) return;
    assert.ok(!this.inUse().has(address), `${address} has two owners`);
    this.plain.set(address, { host, poolId });
  }

  /** Checks that the address of a task is allocated to nothing else. */
  async refuse(task: Task, host: HostName): Promise<void> {
    if (!task.isClaimed) return;
    await assert.rejects(this.#claim(task.address), isTaken);
    const other = String((await this.lab.pool(host, this.subnet))['PoolID']);
    await assert.rejects(this.lab.address(host, other, task.address), isTaken);
  }

  /** The addresses in use, by the model. */
  inUse(): ReadonlySet<string> {
    const tasks = this.tasks.filter(({ isClaimed, runs }) => isClaimed || runs !== undefined);
    return new Set([...tasks.map(({ address }) => address), ...this.plain.keys()]);
  }

  /** The allocated addresses, by the blocks. */
  allocation(): ReadonlySet<string> {
    const blocks = [...this.lab.mirror.list('Block4').values()];
    return new Set(
      blocks.flatMap(({ value }) => [...allocatedAddresses(value)].map(([address]) => address)),
    );
  }

  /** Reclaims the leaks that both hosts find twice. Containers on local networks have no endpoints here. */
  async sweep(): Promise<void> {
    const swarm = { isManager: true, networks: new Set([network]) };
    for (const host of [...hosts, ...hosts]) {
      await this.lab.on(host).write((draft) => {
        const finds = findLeaks(draft, host, swarm).filter(
          (find) => find.kind === 'claim' || (find.kind === 'pool' && this.#isOver(find.poolId)),
        );
        reclaim(draft, host, finds, swarm);
      }, signal);
    }
  }

  async removeAll(): Promise<void> {
    for (const task of this.tasks) {
      await this.stop(task);
      await this.end(task);
    }
    for (const [address, { host, poolId }] of this.plain) {
      await this.lab.release(host, poolId, address);
    }
    for (const host of hosts) await this.lab.removeNetwork(host, network);
    await this.lab.free(this.leader, network);
    const swarm = { isManager: true, networks: new Set<string>() };
    for (const host of [...hosts, ...hosts]) {
      await this.lab
        .on(host)
        .write((draft) => reclaim(draft, host, findLeaks(draft, host, swarm), swarm), signal);
    }
  }

  #isOver(poolId: string): boolean {
    return this.#former.some((former) => former.poolId === poolId);
  }

  #claim(address?: string): Promise<string> {
    const options = { 'com.docker.network.ipam.serial': 'true' };
    return this.lab.address(this.leader, this.#poolId, address, options);
  }

  #askGateway(host: HostName, poolId: string): Promise<string> {
    const options = { RequestAddressType: 'com.docker.network.gateway' };
    return this.lab.address(host, poolId, this.#gateway, options);
  }
}

const step = fc.record({
  kind: fc.constantFrom(
    ...(['start', 'start', 'run', 'run', 'stop', 'end', 'again', 'lead', 'restart'] as const),
    ...(['plain', 'plain-specific', 'refuse', 'sweep'] as const),
  ),
  host: fc.constantFrom(...hosts),
  pick: fc.nat(100),
});

for (const subnet of [undefined, '10.99.0.0/26']) {
  test(`for any requests of managers and hosts of a swarm, no address has two owners and none is lost: ${subnet ?? 'all pools'}`, () =>
    fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), (steps) =>
        withIpam(async (lab) => {
          const swarm = new Swarm(lab, subnet);
          await swarm.lead('host-a');
          for (const { kind, host, pick } of steps) {
            const task = swarm.tasks[pick % swarm.tasks.length];
            if (kind === 'start') await swarm.start();
            if (kind === 'run' && task !== undefined) await swarm.run(task, host);
            if (kind === 'stop' && task !== undefined) await swarm.stop(task);
            if (kind === 'end' && task !== undefined) await swarm.end(task);
            if (kind === 'again') await swarm.releaseAgain(pick);
            if (kind === 'lead') await swarm.lead(host, task === undefined ? [] : [task]);
            if (kind === 'restart') await swarm.restart(host);
            if (kind === 'plain') await swarm.startPlain(host, undefined);
            if (kind === 'plain-specific') await swarm.startPlain(host, task?.address);
            if (kind === 'refuse' && task !== undefined) await swarm.refuse(task, host);
            if (kind === 'sweep') await swarm.sweep();
            assert.deepEqual(
              swarm.inUse().difference(swarm.allocation()),
              new Set(),
              `after ${kind}`,
            );
          }
          await swarm.sweep();
          assert.deepEqual(swarm.allocation(), swarm.inUse());
          const wrong = checkIpam(lab.mirror).filter(
            (text) => !text.includes('not used by an endpoint'),
          );
          assert.deepEqual(wrong, []);
          await swarm.removeAll();
          assert.deepEqual(swarm.allocation(), new Set());
          assert.equal(lab.mirror.list('Handle').size, 0);
          assert.equal(lab.mirror.list('DockerPool').size, 0);
        }),
      ),
      { numRuns: 40 },
    ));
}

/** Requests a pool as Swarm's manager does, with the gateway of the network. */
async function managerPool(lab: Lab, host: HostName, subnet?: string): Promise<string> {
  const pool = await lab.pool(host, subnet, undefined, swarmAddressSpace);
  const gateway = gatewayOf(pool).split('/')[0] ?? '';
  await lab.allocate(host, network, String(pool['Pool']), gateway);
  return String(pool['PoolID']);
}

test('claims of a manager are reclaimed when its host is no longer one, or the network is removed', async () => {
  for (const swarm of [{ isManager: false }, { isManager: true, networks: new Set<string>() }]) {
    await withIpam(async (lab) => {
      await lab.address('host-a', await managerPool(lab, 'host-a'));
      const look = (facts: SwarmFacts) =>
        lab.writer.write((draft) => {
          const finds = findLeaks(draft, 'host-a', facts);
          reclaim(draft, 'host-a', finds, facts);
          return finds.length;
        }, signal);
      for (const networks of [undefined, new Set([network])]) {
        const facts = { isManager: true, ...(networks === undefined ? {} : { networks }) };
        assert.equal((await look(facts)).result, 0);
      }
      assert.equal((await look(swarm)).result, 1);
      assert.equal((await look(swarm)).result, 1);
      assert.equal(lab.mirror.list('DockerPool').size, 0);
      assert.equal(lab.mirror.list('Handle').size, 0);
    });
  }
});

test('a manager and the tasks of its own host share the gateway that the user chose', () =>
  withIpam(async (lab) => {
    const options = { RequestAddressType: 'com.docker.network.gateway' };
    const pools = [
      String((await lab.pool('host-a', '10.99.0.0/24', undefined, swarmAddressSpace))['PoolID']),
      String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID']),
      String((await lab.pool('host-b', '10.99.0.0/24'))['PoolID']),
    ];
    for (const [index, poolId] of pools.entries()) {
      const host = index === 2 ? 'host-b' : 'host-a';
      assert.equal(await lab.address(host, poolId, '10.99.0.1', options), '10.99.0.1');
    }
    await assert.rejects(lab.address('host-a', pools[0] ?? '', '10.99.0.1'), isTaken);
    for (const [index, poolId] of pools.entries()) {
      await lab.release(index === 2 ? 'host-b' : 'host-a', poolId, '10.99.0.1');
    }
    assert.equal(lab.mirror.list('Handle').size, 0);
  }));

test('with strict affinity the task of another host is rejected with the reason', () =>
  withIpam(async (lab) => {
    await lab.writer.write((draft) => {
      draft.put('IpamConfig', 'config', { auto_allocate_blocks: true, strict_affinity: true });
    }, signal);
    const address = await lab.address('host-a', await managerPool(lab, 'host-a'));
    const pool = await lab.pool('host-b');
    await lab.adopt('host-b', network, [pool]);
    await assert.rejects(lab.address('host-b', String(pool['PoolID']), address), {
      code: 'ipam/address-elsewhere',
    });
  }));

test('outside a swarm a network of scope global has addresses like any other', () =>
  withIpam(async (lab) => {
    const pool = await lab.pool('host-a', undefined, undefined, swarmAddressSpace);
    const poolId = String(pool['PoolID']);
    await lab.adopt('host-a', 'net1', [pool], swarmAddressSpace);
    const address = await lab.address('host-a', poolId);
    await lab.connect('host-a', 'net1', { endpointId: 'endpoint1', address });
    const facts = { isManager: false };
    const lost = await lab.writer.write((draft) => findLeaks(draft, 'host-a', facts), signal);
    assert.deepEqual(lost.result, []);
    await lab.disconnect('host-a', 'endpoint1');
    await lab.release('host-a', poolId, address);
    assert.equal(lab.mirror.list('Handle').size, 0);
  }));

test('a network with two subnets has addresses of both; a full one leaves the other, on no other network', () =>
  withIpam(async (lab) => {
    const small = ['10.99.0.0/30', '10.99.1.0/30', '10.99.2.0/30'] as const;
    const pools: string[] = [];
    for (const subnet of small) {
      const pool = await lab.pool('host-a', subnet, undefined, swarmAddressSpace);
      pools.push(String(pool['PoolID']));
    }
    const [first = '', second = '', foreign = ''] = pools;
    for (const [networkId, subnets] of [
      [network, small.slice(0, 2)],
      ['another-network', small.slice(2)],
    ] as const) {
      const request = {
        node: 'host-a',
        networkId,
        subnets: subnets.map((subnet) => ({
          family: 4 as const,
          cidr: parseCidr(subnet),
          gateway: parseAddress(subnet.replace('.0/30', '.1')),
          addressSpace: swarmAddressSpace,
          auxiliary: {},
        })),
      };
      await lab.plan((draft) => lab.plans.allocateNetwork(draft, request));
    }
    assert.equal(await lab.address('host-a', first, '10.99.1.2'), '10.99.1.2');
    await assert.rejects(lab.address('host-a', first, '10.99.1.2'), isTaken);
    await assert.rejects(lab.address('host-a', first, '10.99.2.2'), {
      code: 'ipam/address-outside',
    });
    const taken = new Set(['10.99.1.2']);
    for (;;) {
      const address = await lab.address('host-a', second).catch(() => undefined);
      if (address === undefined) break;
      taken.add(address);
    }
    const ofNetwork = [...taken].filter((one) => /^10\.99\.[01]\./.test(one));
    assert.equal(ofNetwork.length, taken.size);
    assert.ok(
      ofNetwork.some((one) => one.startsWith('10.99.0.')),
      'the other subnet is used too',
    );
    assert.equal(await lab.address('host-a', foreign, '10.99.2.2'), '10.99.2.2');
  }));

test('a network is tied to the pool of its gateway, then to one of no network yet, then to the newest; others of this manager are replaced', () =>
  withIpam(async (lab) => {
    const subnet = '10.99.0.0/24';
    let second = 0;
    lab.now = () => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
    const request = async (host: HostName) => {
      second++;
      const pool = await lab.pool(host, subnet, undefined, swarmAddressSpace);
      return { id: String(pool['PoolID']), gateway: gatewayOf(pool).split('/')[0] ?? '' };
    };
    const swarms = () =>
      Object.fromEntries(
        [...lab.mirror.list('DockerPool').values()].map(({ value }) => [value.poolId, value.swarm]),
      );
    const tied = (term: number) => ({ network, term });
    const [first, other] = [await request('host-a'), await request('host-a')];
    await lab.allocate('host-a', network, subnet, first.gateway);
    assert.deepEqual(swarms(), { [first.id]: tied(1), [other.id]: {} });
    // dockerd asks for the network again, with a gateway that the user chose.
    await lab.allocate('host-a', network, subnet, '10.99.0.1');
    const replaced = { ...tied(1), isReplaced: true };
    assert.deepEqual(swarms(), { [first.id]: replaced, [other.id]: tied(1) });
    const [third, fourth] = [await request('host-a'), await request('host-a')];
    await lab.allocate('host-a', network, subnet, '10.99.0.1');
    assert.deepEqual(swarms()[third.id], {});
    assert.deepEqual(swarms()[fourth.id], tied(1));
    assert.deepEqual(swarms()[other.id], replaced);
    // The leader changes twice; each begins a term.
    const ofB = await request('host-b');
    await lab.allocate('host-b', network, subnet, ofB.gateway);
    assert.deepEqual(swarms()[ofB.id], tied(2));
    await lab.allocate('host-a', network, subnet, fourth.gateway);
    assert.deepEqual([swarms()[fourth.id], swarms()[ofB.id]], [tied(3), tied(2)]);
    // Another network, other subnets and Docker's own IPAM do not take its pools.
    await lab.allocate('host-a', 'another-network', '10.98.0.0/24', '10.98.0.1');
    await lab.allocate('host-a', 'another-network', subnet, fourth.gateway);
    assert.deepEqual(swarms()[fourth.id], tied(3));
    assert.deepEqual(swarms()[third.id], { network: 'another-network', term: 1 });
  }));

test('the pools of a removed network are deleted one by one, those of other managers and networks are not', () =>
  withIpam(async (lab) => {
    const owners = [
      ['host-a', network, '10.99.0.0/24'],
      ['host-a', network, '10.99.1.0/24'],
      ['host-b', network, '10.99.0.0/24'],
      ['host-a', 'another-network', '10.99.2.0/24'],
    ] as const;
    for (const [host, networkId, subnet] of owners) {
      const pool = await lab.pool(host, subnet, undefined, swarmAddressSpace);
      const swarm = { network: networkId, term: 1 };
      await lab.plan((draft) => {
        for (const [id, record] of draft.entries('DockerPool')) {
          if (record.poolId === pool['PoolID']) draft.put('DockerPool', id, { ...record, swarm });
        }
      });
    }
    const left = () =>
      [...lab.mirror.list('DockerPool').values()].map(({ value: { node, swarm, subnet } }) =>
        [node, swarm?.network, subnet].join(' '),
      );
    const step = () => lab.plan((draft) => lab.plans.freeNetwork(draft, 'host-a', network));
    assert.equal(await step(), 'more');
    assert.equal(left().length, 3);
    assert.equal(await step(), 'done');
    const others = owners.slice(2).map((of) => of.join(' '));
    assert.deepEqual(left().toSorted(), [...others].toSorted());
    assert.equal(await step(), 'done');
    assert.equal(left().length, 2);
  }));

test('only the pool that claims an address releases the claim', () =>
  withIpam(async (lab) => {
    const poolId = await managerPool(lab, 'host-a');
    const address = await lab.address('host-a', poolId);
    const ofHost = await lab.pool('host-a');
    const ofOther = await managerPool(lab, 'host-b');
    const claim = (await lab.holder(address))?.secondary?.['swarm'];
    assert.ok(claim !== undefined);
    for (const [host, other] of [
      ['host-a', String(ofHost['PoolID'])],
      ['host-b', ofOther],
      ['host-a', 'CalicoPoolIPv4'],
      ['host-b', poolId],
    ] as const) {
      await lab.release(host, other, address);
      assert.equal((await lab.holder(address))?.secondary?.['swarm'], claim, other);
    }
    await lab.release('host-a', poolId, '10.65.0.60');
    await lab.release('host-a', poolId, address);
    assert.equal(await lab.holder(address), undefined);
  }));
