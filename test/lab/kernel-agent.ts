import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Supervisor } from '../../src/async/supervise.ts';
import { Agent } from '../../src/agent/agent.ts';
import { openDrivers, type Kernel } from '../../src/agent/kernel.ts';
import { statusReport } from '../../src/agent/status/status.ts';
import { startCommandLine } from '../../src/cli/command-line.fixture.ts';
import {
  indexLocalEndpoints,
  type LocalEndpoints,
} from '../../src/driver/endpoints/local-endpoints.ts';
import type { StatusReport } from '../../src/telemetry/status-report.ts';
import { openKernelSockets, type KernelSockets } from '../../src/dataplane/kernel-sockets.ts';
import { HostPortReservations } from '../../src/dataplane/host-ports/host-port-reservations.ts';
import { Ipv6Forwarding } from '../../src/dataplane/host-settings.ts';
import type { Backend } from '../../src/dataplane/iptables/tables.ts';
import { createVeth, deleteLinkOffThread } from '../../src/dataplane/netlink/link.ts';
import { KernelMonitor } from '../../src/dataplane/netlink/monitor.ts';
import { ToolRunner } from '../../src/dataplane/process.ts';
import { inBackground, type Background } from '../../src/async/background.fixture.ts';
import { GroupWriter } from '../../src/cache/group-writer.ts';
import { LiveMirror } from '../../src/cache/live-mirror.ts';
import type { Datastore } from '../../src/datastore/datastore.ts';
import { openMirroredStore, type MirroredStore } from '../../src/cache/mirrored-store.fixture.ts';
import type { Draft } from '../../src/datastore/writer.ts';
import { parseNet, type Cidr } from '../../src/ip/cidr.ts';
import type { IpPool } from '../../src/model/kinds/ip-pool.ts';
import type { PolicyRule } from '../../src/model/policy-rule.ts';
import type { DenyAction } from '../../src/ruleset/drop-reasons.ts';
import type { Profile } from '../../src/model/kinds/profile.ts';
import type { WorkloadEndpoint } from '../../src/model/kinds/workload-endpoint.ts';
import { createLogger } from '../../src/telemetry/log.ts';

const apiVersion = 'projectcalico.org/v3';

/** The agent's host. */
export const here = 'here';

export interface KernelAgentOptions {
  readonly node?: string;
  /** Whether connections that policy no longer allows are ended. */
  readonly endsForbiddenFlows?: boolean;
  /** A datastore that outlives the agent; the agent reads what is in it, like a daemon that starts. */
  readonly datastore?: Datastore;
}

/** An agent over a datastore in memory and the kernel of this process's network namespace, without Docker. */
export class KernelAgent implements AsyncDisposable {
  readonly agent: Agent;
  readonly kernel: Kernel;
  readonly store: MirroredStore;
  readonly sockets: KernelSockets;
  readonly log: string[];
  readonly #backend: Backend;
  readonly #local: LocalEndpoints;
  readonly #end: () => Promise<void>;

  private constructor(
    parts: Pick<KernelAgent, 'agent' | 'kernel' | 'store' | 'sockets' | 'log'> & {
      readonly backend: Backend;
    },
    end: () => Promise<void>,
  ) {
    this.agent = parts.agent;
    this.kernel = parts.kernel;
    this.store = parts.store;
    this.sockets = parts.sockets;
    this.log = parts.log;
    this.#backend = parts.backend;
    this.#local = indexLocalEndpoints(parts.store.mirror, here);
    this.#end = end;
  }

  static async start(
    backend: Backend,
    runner = new ToolRunner(),
    denyAction: DenyAction = 'drop',
    { node = here, endsForbiddenFlows = true, datastore }: KernelAgentOptions = {},
  ): Promise<KernelAgent> {
    const folder = mkdtempSync(join(tmpdir(), 'calico-agent-'));
    // Docker does this when it starts.
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
    const started = datastore === undefined ? undefined : mirrorOf(datastore);
    const store = started?.store ?? (await openMirroredStore());
    const sockets = openKernelSockets();
    const stop = new AbortController();
    const log: string[] = [];
    const chosen = { backend, why: 'the test says' };
    const drivers = openDrivers({ sockets, runner, chosen, families: [4, 6], denyAction });
    const agent = new Agent({
      node,
      mirror: store.mirror,
      log: createLogger({ level: 'info', write: (line) => log.push(line), now: () => new Date() }),
      supervisor: new Supervisor({ onFailure: ({ error }) => log.push(String(error)) }),
      drivers,
      hostPorts: new HostPortReservations(sockets.libc),
      families: [4, 6],
      statics: { endpointToHostAction: 'Return' },
      ipv6Forwarding: new Ipv6Forwarding(join(folder, 'control.sock')),
      resolvesNames: true,
      endsForbiddenFlows,
    });
    const monitor = new KernelMonitor(sockets.libc, (events) => agent.onKernelEvents(events));
    const monitoring = monitor.run(stop.signal);
    agent.start(stop.signal);
    // The agent is told of what the first listing contains.
    await started?.run();
    return new KernelAgent(
      { agent, kernel: drivers.kernel, store, sockets, log, backend },
      async () => {
        stop.abort();
        await monitoring;
        monitor.close();
        await store[Symbol.asyncDispose]();
        rmSync(folder, { recursive: true });
      },
    );
  }

  /** Writes to the datastore; returns the revision. */
  async write(plan: (draft: Draft) => void): Promise<bigint> {
    return (await this.store.writer.write(plan, AbortSignal.timeout(120_000))).revision;
  }

  /**
   * Does what Join does without Docker: creates interface and endpoint. Returns the milliseconds until it is
   * programmed.
   */
  async join(facts: EndpointFacts): Promise<number> {
    const { name } = facts;
    const { agent } = this;
    this.makeLink(facts.interfaceName);
    const revision = await this.write((draft) =>
      draft.put('WorkloadEndpoint', endpointId(name), endpoint(facts)),
    );
    const started = performance.now();
    await agent.programmed(name, revision, AbortSignal.timeout(120_000));
    return performance.now() - started;
  }

  /** Creates the interface of a container; its peer is `p` and the rest of the name. */
  makeLink(interfaceName: string): void {
    createVeth(this.sockets.rtnetlink, {
      hostName: interfaceName,
      hostMac: 'ee:ee:ee:ee:ee:ee',
      peerName: `p${interfaceName.slice(4)}`,
      peerMac: 'ca:00:00:00:00:01',
      mtuBytes: 1500,
    });
    this.agent.linkMade(interfaceName, { hasIpv6: false });
  }

  async leave({ name, interfaceName }: EndpointFacts): Promise<void> {
    await deleteLinkOffThread(this.sockets.removals, interfaceName);
    await this.write((draft) => draft.remove('WorkloadEndpoint', endpointId(name)));
  }

  status(): StatusReport {
    return statusReport({
      version: '0',
      node: here,
      startedAt: new Date(),
      mirror: this.store.mirror,
      agent: this.agent,
      local: this.#local,
      firewall: { backend: this.#backend, why: 'the test says' },
      families: [4, 6],
      sockets: ['calico.sock'],
      hostProblems: [],
      connected: () => [],
      dockerPools: () => [],
      moreChecks: [],
    });
  }

  /** Runs `calico-cnm status` against this agent; returns its exit status and output. */
  async statusCommand(): Promise<{ readonly status: number; readonly text: string }> {
    using cli = startCommandLine();
    const server = createServer((_request, response) => {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(this.status()));
    });
    await once(server.listen(join(cli.folder, 'control.sock')), 'listening');
    try {
      const { status, out, error } = await cli.run(['status']);
      return { status, text: out + error };
    } finally {
      server.close();
    }
  }

  /** Waits until the agent has programmed the present state of the datastore. */
  async settled(): Promise<void> {
    // Of a kind that no manager receives.
    const revision = await this.write((draft) =>
      draft.put('IPReservation', 'settled', {
        kind: 'IPReservation',
        apiVersion,
        metadata: { name: 'settled', annotations: { at: String(Math.random()) } },
        spec: {},
      }),
    );
    await this.agent.programmed('none', revision, AbortSignal.timeout(120_000));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
  }
}

/** Returns a mirror that follows a datastore when it runs; disposal leaves the datastore open. */
function mirrorOf(datastore: Datastore) {
  const mirror = new LiveMirror(datastore);
  let running: Background | undefined;
  return {
    store: {
      datastore,
      mirror,
      writer: new GroupWriter(mirror),
      [Symbol.asyncDispose]: async () => running?.stop(),
    },
    run: async () => {
      running = inBackground((signal) => mirror.run(signal));
      await mirror.reached(0n, AbortSignal.timeout(120_000));
    },
  };
}

export interface EndpointFacts {
  readonly name: string;
  readonly node?: string;
  readonly networks: readonly string[];
  readonly profiles: readonly string[];
  readonly interfaceName: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** Returns the id of an endpoint in the datastore. */
export function endpointId(name: string): string {
  return `libnetwork/${name}`;
}

export function endpoint(facts: EndpointFacts): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: { name: facts.name, namespace: 'libnetwork', labels: { ...facts.labels } },
    spec: {
      orchestrator: 'libnetwork',
      node: facts.node ?? here,
      endpoint: facts.name,
      ipNetworks: facts.networks.map(parseNet),
      profiles: [...facts.profiles],
      interfaceName: facts.interfaceName,
    },
  };
}

export function pool(name: string, cidr: Cidr, natOutgoing = true): IpPool {
  return { kind: 'IPPool', apiVersion, metadata: { name }, spec: { cidr, natOutgoing } };
}

export function profile(name: string, ingress: readonly PolicyRule[]): Profile {
  return {
    kind: 'Profile',
    apiVersion,
    metadata: { name },
    spec: { ingress: [...ingress], egress: [{ action: 'Allow' }] },
  };
}
