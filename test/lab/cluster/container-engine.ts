import type { Peer } from './peer.ts';

/** A network to create on a host. */
export interface NetworkSpec {
  /** By default the addresses are from the default pools. */
  readonly subnet?: string;
  /** Whether it has IPv6 as well; by default it has. */
  readonly ipv6?: boolean;
  /** Generic options, as of `docker network create -o`. */
  readonly options?: Readonly<Record<string, string>>;
}

/** A container, or what stands for one, to start on a host. */
export interface ContainerSpec {
  readonly network: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** The IPv4 address, as of `docker run --ip`; by default any. */
  readonly address?: string;
}

/** Creates networks and endpoints on one host: Docker, or the stand-in without containers (namespace-engine.ts). */
export interface ContainerEngine extends AsyncDisposable {
  createNetwork(name: string, spec: NetworkSpec): Promise<void>;
  removeNetwork(name: string): Promise<void>;
  /** Starts a container that serves its name on port 8080. */
  run(name: string, spec: ContainerSpec): Promise<Peer>;
  remove(name: string): Promise<void>;
}
