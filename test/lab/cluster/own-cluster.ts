import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from './cluster.ts';
import type { ClusterHost } from './cluster-host.ts';
import { oneSegment } from './fabric.ts';
import { flowsDuring, pingFlow } from './flows.ts';
import { startIslands } from './islands.ts';
import type { Peer } from './peer.ts';
import type { CommandResult } from '../process.ts';

const patienceMs = 300_000;

/** Hosts with containers that make a cluster by the commands of docs/cluster.md, and what is asked of them. */
export class OwnCluster implements AsyncDisposable {
  readonly islands: Cluster;
  #containers = 0;

  private constructor(islands: Cluster) {
    this.islands = islands;
  }

  /** Starts hosts, each with two containers on its network `web`. */
  static async start(hosts: number): Promise<OwnCluster> {
    const islands = await startIslands(oneSegment(hosts), { ownPools: true });
    const cluster = new OwnCluster(islands);
    try {
      await Promise.all(islands.hosts.map((host) => cluster.furnish(host)));
    } catch (error) {
      await islands[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  /** As `start`; the first three hosts are the members of a healthy cluster. */
  static async ofThreeMembers(hosts = 3): Promise<OwnCluster> {
    const cluster = await OwnCluster.start(hosts);
    try {
      await cluster.form(2, 3);
      await cluster.healthy(cluster.host(1));
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  /** Gives a host its network and two containers. */
  async furnish(host: ClusterHost): Promise<void> {
    await host.network('web', { ipv6: false });
    for (const letter of ['a', 'b']) await host.run(`${letter}-${host.name}`, { network: 'web' });
  }

  /** Returns a host by its number, from 1. */
  host(number: number): ClusterHost {
    return this.islands.hosts[number - 1] ?? assert.fail(`no host ${number}`);
  }

  /** Makes the first host a cluster, and these others join it. */
  async form(...others: readonly number[]): Promise<void> {
    this.succeeded(this.host(1), await this.host(1).tryCalico('cluster', 'init'));
    for (const number of others) await this.join(this.host(number), this.host(1));
  }

  /** Returns the arguments of the join command that a member prints. */
  async joinLine(member: ClusterHost, ...options: readonly string[]): Promise<readonly string[]> {
    const created = await member.tryCalico('cluster', 'token', 'create', ...options);
    const printed = this.succeeded(member, created);
    const [, address = '', token = ''] = /cluster join (\S+) (\S+)/.exec(printed) ?? [];
    return ['cluster', 'join', address, token];
  }

  async join(host: ClusterHost, member: ClusterHost): Promise<void> {
    this.succeeded(host, await host.tryCalico(...(await this.joinLine(member))));
  }

  /** Returns the output of a command that must have succeeded. */
  succeeded({ host }: ClusterHost, { status, stdout, stderr }: CommandResult): string {
    assert.equal(status, 0, `${stdout}${stderr}\n${host.calicoLog().slice(-4000)}`);
    return stdout;
  }

  /** Waits until `cluster status` on a host shows this; returns it. */
  async shows(on: ClusterHost, pattern: RegExp): Promise<string> {
    for (const end = Date.now() + patienceMs; ; await sleep(300)) {
      const { stdout, stderr } = await on.tryCalico('cluster', 'status');
      if (pattern.test(stdout)) return stdout;
      if (Date.now() > end) {
        const logs = this.islands.hosts.map(({ host }) => host.calicoLog().slice(-3000));
        assert.fail(`${pattern} is not in\n${stdout}${stderr}\n${logs.join('\n\n')}`);
      }
    }
  }

  /** Waits until all of so many members respond. */
  healthy(on: ClusterHost, members = 3): Promise<string> {
    return this.shows(
      on,
      new RegExp(`^cluster \\S+: healthy[^]*: ${members} of ${members} members`),
    );
  }

  /** Pings 100 times a second between the containers of each of these hosts, and around from one host to the next. */
  async undisturbed(
    hosts: readonly ClusterHost[],
    { across = true }: { readonly across?: boolean },
    happens: () => Promise<void>,
  ): Promise<void> {
    const pairs = hosts.flatMap((host, index): (readonly [Peer, Peer])[] => {
      const [a, b] = host.containers;
      const [other] = hosts[(index + 1) % hosts.length]?.containers ?? [];
      assert.ok(a && b && other);
      return [[a, b], ...(across && hosts.length > 1 ? ([[b, other]] as const) : [])];
    });
    const flows = await Promise.all(
      pairs.map(([from, to]) => pingFlow(from, to, to.addresses[0] ?? '')),
    );
    await flowsDuring(flows, happens);
  }

  /** Starts a container on each host, by Docker's calls, and removes it. */
  async allocate(...hosts: readonly ClusterHost[]): Promise<void> {
    for (const host of hosts) {
      const name = `new-${++this.#containers}`;
      await host.run(name, { network: 'web' });
      await host.remove(name);
    }
  }

  /** Waits until the daemon of a host reports that all is well, apart from checks that match `except`. */
  async well(host: ClusterHost, except?: RegExp): Promise<void> {
    for (const end = Date.now() + patienceMs; ; await sleep(200)) {
      const { status, stdout, stderr } = await host.tryCalico('status');
      if (status === 0) return;
      const failed = stdout.match(/^ {2}FAIL .*$/gm) ?? [];
      if (except !== undefined && failed.length > 0 && failed.every((one) => except.test(one)))
        return;
      assert.ok(Date.now() < end, `${stdout}${stderr}${host.host.calicoLog().slice(-3000)}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.islands[Symbol.asyncDispose]();
  }
}
