import { backoffMs, pause, withDeadline } from '../../async/deadline.ts';
import type { Work } from '../../async/supervise.ts';
import { Waiters } from '../../async/waiters.ts';
import { isMirrorLocked } from '../../cache/lock.ts';
import type { Mirror } from '../../cache/mirror.ts';
import type { Writer } from '../../datastore/writer.ts';
import { isCalicoError } from '../../errors/error.ts';
import type { NetworkDefinition } from '../../model/kinds/network-definition.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Check } from '../../telemetry/status-report.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import { newNetwork, planNetwork, type DriverNames, type NetworkStep } from './defined-network.ts';
import { networkIsGone, reportNetwork, type HostState } from './definition-plans.ts';

export interface DefinedNetworksDeps {
  readonly node: string;
  readonly docker: Pick<
    DockerApi,
    'networkDetails' | 'createNetwork' | 'removeNetwork' | 'calicoPlugins'
  >;
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly now: () => Date;
  readonly log: Logger;
  /** Whether new networks use the name of the managed plugin instead of `calico`. */
  readonly isManaged: boolean;
}

const answerMs = 5000;
/** Docker waits for the plugin while it creates or removes a network, and the plugin for the datastore. */
const changeMs = 60_000;
const firstRetryMs = 500;
const longestRetryMs = 30_000;
/** Steps of one network in one round: one creates it, and one removes each duplicate. */
const maxSteps = 10;

/** Keeps the networks of this host's Docker as the definitions in the datastore say. */
export class DefinedNetworks {
  readonly #deps: DefinedNetworksDeps;
  readonly #waiters = new Waiters();
  #isChanged = true;
  /** Networks that are not as their definitions say, with the reason. */
  readonly #wrong = new Map<string, Pick<Check, 'detail' | 'remedy'>>();

  constructor(deps: DefinedNetworksDeps) {
    this.#deps = deps;
  }

  /** Docker's networks may have changed. */
  readonly changed = (): void => {
    this.#isChanged = true;
    this.#waiters.settle();
  };

  /** Returns a check for each network that is not as its definition says. */
  checks(): readonly Check[] {
    return [...this.#wrong].map(([name, wrong]) => ({
      name: `network ${name}`,
      ok: false,
      ...wrong,
    }));
  }

  /** Runs until the signal is aborted; retries after errors, for each network separately. */
  async run(work: Work, signal: AbortSignal): Promise<void> {
    const { mirror } = this.#deps;
    const unsubscribe = mirror.subscribe(({ changes }) => {
      if (changes.some(({ kind }) => kind === 'NetworkDefinition' || kind === 'ClusterInformation'))
        this.changed();
    });
    let delays = backoffMs(firstRetryMs, longestRetryMs);
    try {
      while (!signal.aborted) {
        await this.#waiters.until(() => this.#isChanged, signal).catch(() => undefined);
        if (signal.aborted) return;
        this.#isChanged = false;
        const error = await this.#round(signal).catch((thrown: unknown) => ({ thrown }));
        if (error === undefined) {
          work.succeeded();
          delays = backoffMs(firstRetryMs, longestRetryMs);
          continue;
        }
        work.failed(error.thrown);
        // A change of a definition does not wait for the retry.
        const stop = withDeadline(signal, delays.next().value);
        await this.#waiters.until(() => this.#isChanged, stop).catch(() => undefined);
        this.#isChanged = true;
        await pause(firstRetryMs, signal);
      }
    } finally {
      unsubscribe();
    }
  }

  /** Returns the last error, after all networks. */
  async #round(signal: AbortSignal): Promise<{ readonly thrown: unknown } | undefined> {
    const { mirror } = this.#deps;
    const names = [...mirror.list('NetworkDefinition').keys()];
    for (const name of this.#wrong.keys()) if (!names.includes(name)) this.#wrong.delete(name);
    if (names.length === 0 || isMirrorLocked(mirror)) return undefined;
    const drivers = await this.#driverNames(signal);
    let error: { readonly thrown: unknown } | undefined;
    for (const name of names) {
      try {
        await this.#keep(name, drivers, signal);
      } catch (thrown) {
        error = { thrown };
      }
    }
    return error;
  }

  /** Brings one network into its state, and reports it. Throws the errors of Docker and of the datastore. */
  async #keep(name: string, drivers: DriverNames, signal: AbortSignal): Promise<void> {
    const { docker, mirror } = this.#deps;
    for (let step = 0; step < maxSteps; step++) {
      const definition = mirror.get('NetworkDefinition', name)?.value;
      if (definition === undefined) return;
      const present = await docker.networkDetails(withDeadline(signal, answerMs));
      const named = present.filter(({ Name }) => Name === name);
      const plan = planNetwork(definition, named, drivers);
      if (plan.do === 'nothing' && definition.isRemoving === true) {
        await this.#gone(definition, signal);
        return;
      }
      if (plan.do === 'nothing' || plan.do === 'differs') {
        const how = plan.do === 'differs' ? { why: plan.how } : {};
        const state = plan.do === 'differs' ? 'differs' : 'created';
        await this.#report(definition, { state, ...how }, signal);
        return;
      }
      try {
        await this.#change(definition, plan, { drivers, signal });
      } catch (error) {
        if (!isCalicoError(error, 'docker/refused')) throw error;
        await this.#report(definition, { state: 'failed', why: error.detail.why }, signal);
        throw error;
      }
    }
    throw new Error(`network ${name} is created and removed by others again and again`);
  }

  async #change(
    definition: NetworkDefinition,
    plan: Extract<NetworkStep, { do: 'create' | 'remove' }>,
    { drivers, signal }: { readonly drivers: DriverNames; readonly signal: AbortSignal },
  ): Promise<void> {
    const { docker, log } = this.#deps;
    const { name } = definition;
    const deadline = withDeadline(signal, changeMs);
    if (plan.do === 'remove') {
      await docker.removeNetwork(plan.id, deadline);
      log.info('network removed', {
        network: name,
        id: plan.id.slice(0, 12),
        why: definition.isRemoving === true ? 'definition removed' : 'duplicate',
      });
      return;
    }
    // Reported first: the definition exists as long as this host may have its network.
    const isCurrent = await this.#report(definition, { state: 'creating' }, signal);
    if (!isCurrent) return;
    const id = await docker.createNetwork(newNetwork(definition, drivers), deadline);
    log.info('network created from its definition', { network: name, id: id.slice(0, 12) });
  }

  async #report(
    definition: NetworkDefinition,
    state: HostState,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { node, writer, now, log } = this.#deps;
    this.#keepWrong(definition.name, state);
    const report = { node, now: now(), ...state };
    const { result } = await writer.write(
      (draft) => reportNetwork(draft, definition, report),
      signal,
    );
    if (result === 'written' && state.state === 'differs') {
      log.warn('network differs from its definition', { network: definition.name, how: state.why });
    }
    return result !== 'stale';
  }

  #keepWrong(name: string, { state, why = '' }: HostState): void {
    if (state === 'differs') {
      this.#wrong.set(name, {
        detail: `differs from its definition: ${why}; it is left as it is`,
        remedy: `Remove it with docker network rm ${name}; the daemon creates it from its definition. Or remove the definition: calico-cnm network rm ${name}.`,
      });
    } else if (state === 'failed') {
      this.#wrong.set(name, {
        detail: `Docker does not create it from its definition: ${why}`,
        remedy: 'The daemon retries automatically.',
      });
    } else if (state === 'created') {
      this.#wrong.delete(name);
    }
  }

  async #gone(definition: NetworkDefinition, signal: AbortSignal): Promise<void> {
    const { node, writer } = this.#deps;
    await writer.write((draft) => networkIsGone(draft, definition, node), signal);
  }

  async #driverNames(signal: AbortSignal): Promise<DriverNames> {
    const { docker, isManaged } = this.#deps;
    const plugins = await docker.calicoPlugins(withDeadline(signal, answerMs));
    const all = new Set(['calico', 'calico-ipam', ...plugins]);
    const [plugin] = isManaged ? plugins : [];
    return plugin === undefined
      ? { network: 'calico', ipam: 'calico-ipam', all }
      : { network: plugin, ipam: plugin, all };
  }
}
