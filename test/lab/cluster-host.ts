import assert from 'node:assert/strict';
import type { Cable } from './cable.ts';
import type { ContainerEngine, ContainerSpec, NetworkSpec } from './container-engine.ts';
import { DockerEngine } from './docker-engine.ts';
import type { Place } from './fabric.ts';
import type { Host } from './host.ts';
import { NamespaceEngine } from './namespace-engine.ts';
import type { Peer } from './peer.ts';
import type { CommandOptions, CommandResult } from './process.ts';

/** A host of a cluster. As a peer it is the host itself, by the addresses of its uplink. */
export class ClusterHost implements Peer, AsyncDisposable {
  readonly name: string;
  readonly place: Place;
  readonly serves = false;
  /** Its Docker and calico-cnm are stopped, killed and started there. */
  readonly host: Host;
  readonly #hasDocker: boolean;
  readonly #containers = new Map<string, Peer>();
  #engine: ContainerEngine | undefined;
  #cable: Cable | undefined;
  #settings: Readonly<Record<string, string>> = {};

  constructor(
    host: Host,
    at: { readonly name: string; readonly place: Place },
    hasDocker: boolean,
  ) {
    this.host = host;
    this.name = at.name;
    this.place = at.place;
    this.#hasDocker = hasDocker;
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
    return this.host.exec(argv, options);
  }

  /** Runs `calico-cnm` with the host's settings; returns its output, and throws it if it fails. */
  calico(...argv: readonly string[]): Promise<string> {
    return this.host.run(['calico-cnm', ...argv], { env: this.#settings });
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
    await this.#containerEngine.remove(name);
    this.#containers.delete(name);
  }

  /** Called once, when it is connected to the network. */
  readonly connected = (cable: Cable): void => {
    this.#cable = cable;
  };

  /** Starts calico-cnm with these settings, and Docker. */
  async start(settings: Readonly<Record<string, string>>): Promise<void> {
    this.#settings = settings;
    const engine = this.#hasDocker
      ? new DockerEngine(this.host)
      : await NamespaceEngine.start(this.host.machine);
    this.#engine = engine;
    await this.startCalico();
    if (this.#hasDocker) await this.host.startDocker();
  }

  /** Starts calico-cnm after it was stopped or killed. */
  startCalico(): Promise<void> {
    return this.host.startCalico(this.#settings);
  }

  get #containerEngine(): ContainerEngine {
    return this.#engine ?? assert.fail(`${this.name} is not started`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine?.[Symbol.asyncDispose]();
    await this.host[Symbol.asyncDispose]();
  }
}
