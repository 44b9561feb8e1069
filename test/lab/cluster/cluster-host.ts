import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { clusterPaths, writeClusterFile } from '../../../src/cluster/cluster-file.ts';
import type { Cable } from './cable.ts';
import type { ContainerEngine, ContainerSpec, NetworkSpec } from './container-engine.ts';
import { DockerEngine } from './docker-engine.ts';
import type { CertificateFiles } from '../etcd.ts';
import type { Engine } from '../engine.ts';
import type { Fabric, Place } from './fabric.ts';
import { startHost, type Host } from '../host.ts';
import type { IptablesBackend } from '../machine.ts';
import { NamespaceEngine } from './namespace-engine.ts';
import type { Peer } from './peer.ts';
import type { CommandOptions, CommandResult } from '../process.ts';

/** The paths of a host's certificates for etcd. */
export const certificatePaths = {
  ca: '/etc/calico/etcd/ca.pem',
  cert: '/etc/calico/etcd/cert.pem',
  key: '/etc/calico/etcd/key.pem',
} as const;

/** The paths of the administrator's certificate, which the command line of a host uses. */
const adminPaths = {
  cert: '/etc/calico/etcd/admin.pem',
  key: '/etc/calico/etcd/admin.key',
} as const;

/** The machine of a host. */
export interface ClusterHostOptions {
  readonly name: string;
  readonly place: Place;
  readonly docker?: Engine;
  readonly backend?: IptablesBackend;
  readonly furnished?: boolean;
  readonly routers?: boolean;
  readonly disks?: boolean;
  /** The cluster's folder for temporary files. */
  readonly folder: string;
}

/** What a host needs to be a member of its cluster. */
export interface Membership {
  readonly fabric: Fabric;
  readonly settings: Readonly<Record<string, string>>;
  readonly certificates: CertificateFiles;
  readonly admin: CertificateFiles;
  readonly authorityKey: string;
  /** Of the members, if the host has joined a cluster. */
  readonly endpoints?: readonly string[];
}

/** A host of a cluster. As a peer it is the host itself, by the addresses of its uplink. */
export class ClusterHost implements Peer, AsyncDisposable {
  readonly name: string;
  readonly place: Place;
  readonly serves = false;
  readonly #options: ClusterHostOptions;
  readonly #containers = new Map<string, Peer>();
  #host: Host;
  #engine: ContainerEngine | undefined;
  #cable: Cable | undefined;
  #membership: Membership | undefined;

  private constructor(options: ClusterHostOptions, host: Host) {
    this.#options = options;
    this.#host = host;
    this.name = options.name;
    this.place = options.place;
  }

  /** Starts its machine, not connected and without Docker and calico-cnm. */
  static async boot(options: ClusterHostOptions): Promise<ClusterHost> {
    return new ClusterHost(options, await bootMachine(options));
  }

  /** Its Docker and calico-cnm are stopped, killed and started there; another one after `switchOn`. */
  get host(): Host {
    return this.#host;
  }

  get on(): string {
    return this.name;
  }

  get addresses(): readonly string[] {
    return [this.place.address, this.place.address6];
  }

  /** The cable between the host and its switch, to cut it or to slow it down. */
  get cable(): Cable {
    return this.#cable ?? assert.fail(`${this.name} is not connected`);
  }

  get containers(): readonly Peer[] {
    return [...this.#containers.values()];
  }

  exec(argv: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    return this.#host.exec(argv, options);
  }

  /**
   * Runs `calico-cnm` with the host's settings and the credential of the administrator; returns its output, and throws
   * it if it fails.
   */
  calico(...argv: readonly string[]): Promise<string> {
    return this.#host.run(['calico-cnm', ...argv], { env: this.#adminSettings });
  }

  /** As `calico`, for a command that may fail. */
  tryCalico(...argv: readonly string[]): Promise<CommandResult> {
    return this.#host.exec(['calico-cnm', ...argv], { env: this.#adminSettings });
  }

  /** As `tryCalico`, with the credential of the node, as on a host that is no member. */
  calicoAsNode(...argv: readonly string[]): Promise<CommandResult> {
    return this.#host.exec(['calico-cnm', ...argv], { env: this.#known.settings });
  }

  /** Creates a network on this host only. */
  network(name: string, spec: NetworkSpec = {}): Promise<void> {
    return this.#containerEngine.createNetwork(name, spec);
  }

  removeNetwork(name: string): Promise<void> {
    return this.#containerEngine.removeNetwork(name);
  }

  /** Starts a container that serves its name on port 8080. */
  async run(name: string, spec: ContainerSpec): Promise<Peer> {
    const peer = await this.#containerEngine.run(name, spec);
    this.#containers.set(name, peer);
    return peer;
  }

  async remove(name: string): Promise<void> {
    this.#containers.delete(name);
    await this.#containerEngine.remove(name);
  }

  /** Called when it is connected to the network. */
  readonly connected = (cable: Cable): void => {
    this.#cable = cable;
  };

  /** Starts calico-cnm and Docker. */
  async start(membership: Membership): Promise<void> {
    this.#membership = membership;
    const copy = (from: string, to: string) => {
      const path = this.#host.path(to);
      mkdirSync(dirname(path), { recursive: true });
      copyFileSync(from, path);
    };
    for (const file of ['ca', 'cert', 'key'] as const) {
      copy(membership.certificates[file], certificatePaths[file]);
    }
    for (const file of ['cert', 'key'] as const) copy(membership.admin[file], adminPaths[file]);
    if (membership.endpoints !== undefined) this.#join(membership, membership.endpoints, copy);
    const hasDocker = this.#options.docker !== undefined;
    this.#engine = hasDocker
      ? new DockerEngine(this.#host)
      : await NamespaceEngine.start(this.#host.machine);
    const starting = [this.startCalico(), ...(hasDocker ? [this.#host.startDocker()] : [])];
    await Promise.allSettled(starting);
    await Promise.all(starting);
  }

  /** Writes the files of a host that has joined, with the key of the authority. */
  #join(
    { certificates, admin, authorityKey }: Membership,
    endpoints: readonly string[],
    copy: (from: string, to: string) => void,
  ): void {
    const paths = clusterPaths({ datastoreFile: '/var/lib/calico/calico.db' });
    copy(certificates.ca, paths.ca);
    copy(certificates.cert, paths.nodeCert);
    copy(certificates.key, paths.nodeKey);
    copy(authorityKey, paths.caKey);
    copy(admin.cert, paths.adminCert);
    copy(admin.key, paths.adminKey);
    const file = { uid: 'lab', node: this.name, part: 'member' as const, state: 'joined' as const };
    writeClusterFile({ file: this.#host.path(paths.file) }, { ...file, endpoints: [...endpoints] });
  }

  /** Starts calico-cnm after it was stopped or killed, with changes to its settings. */
  startCalico(changes: Readonly<Record<string, string>> = {}): Promise<void> {
    return this.#host.startCalico({ ...this.#known.settings, ...changes });
  }

  /** Kills everything that runs on it at the same moment, as a power cut does. */
  async switchOff(): Promise<void> {
    await this[Symbol.asyncDispose]();
    this.#engine = undefined;
    this.#containers.clear();
  }

  /** Boots it again, at its place in the network, with calico-cnm and Docker. */
  async switchOn(): Promise<void> {
    this.#host = await bootMachine(this.#options);
    await this.#known.fabric.connect([this]);
    await this.start(this.#known);
  }

  get #adminSettings(): Readonly<Record<string, string>> {
    const { cert, key } = adminPaths;
    return { ...this.#known.settings, ETCD_CERT_FILE: cert, ETCD_KEY_FILE: key };
  }

  get #known(): Membership {
    return this.#membership ?? assert.fail(`${this.name} is not started`);
  }

  get #containerEngine(): ContainerEngine {
    return this.#engine ?? assert.fail(`${this.name} is not started`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine?.[Symbol.asyncDispose]();
    await this.#host[Symbol.asyncDispose]();
  }
}

function bootMachine(options: ClusterHostOptions): Promise<Host> {
  const { name, docker = '20.10', backend = 'nft', disks = false, folder } = options;
  const { furnished = false, routers = false } = options;
  const disk = `${folder}/${name}`;
  if (disks) mkdirSync(disk, { recursive: true });
  return startHost({
    engine: docker,
    backend,
    furnished,
    routers,
    hostname: name,
    ...(disks ? { disk } : {}),
  });
}
