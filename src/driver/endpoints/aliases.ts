import { backoffMs, pause, withDeadline } from '../../async/deadline.ts';
import type { Work } from '../../async/supervise.ts';
import { Waiters } from '../../async/waiters.ts';
import type { Mirror } from '../../cache/mirror.ts';
import type { Writer } from '../../datastore/writer.ts';
import { annotation, containerName, withAnnotation } from '../../model/kinds/workload-endpoint.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import type { LocalEndpoints } from './local-endpoints.ts';

export interface AliasesDeps {
  readonly docker: Pick<DockerApi, 'endpointNames'>;
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly local: Pick<LocalEndpoints, 'ofContainer'>;
}

/** Docker allows any text as an alias; only these can be asked for by DNS. */
const aliasForm = /^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?$/;
const answerMs = 5000;
const maxAtOnce = 8;
const firstRetryMs = 100;
const longestRetryMs = 5000;

/**
 * Writes the aliases of a container on its networks to its endpoints, if they changed. Docker provides them only when
 * the container has started. Throws the errors of Docker and of the datastore.
 */
async function learnAliases(
  deps: AliasesDeps,
  containerId: string,
  signal: AbortSignal,
): Promise<void> {
  const ids = deps.local.ofContainer(containerId);
  if (ids.length === 0) return;
  const names = await deps.docker.endpointNames(containerId, withDeadline(signal, answerMs));
  for (const id of ids) {
    const endpoint = deps.mirror.get('WorkloadEndpoint', id)?.value;
    const listed = endpoint && names.get(endpoint.spec.endpoint);
    if (endpoint === undefined || listed === undefined) continue;
    const aliases = aliasesOf(listed, containerId, containerName(endpoint));
    if (aliases === annotation(endpoint, 'aliases')) continue;
    await deps.writer.write((draft) => {
      const now = draft.get('WorkloadEndpoint', id);
      if (now !== undefined) {
        draft.put('WorkloadEndpoint', id, withAnnotation(now, 'aliases', aliases));
      }
    }, signal);
  }
}

/** Learns the aliases of containers in the background, because Docker may not respond while one is starting. */
export class AliasLearner {
  readonly #deps: AliasesDeps;
  readonly #waiting = new Set<string>();
  readonly #waiters = new Waiters();

  constructor(deps: AliasesDeps) {
    this.#deps = deps;
  }

  /** The aliases of a container may have changed. */
  changed(containerId: string): void {
    if (this.#deps.local.ofContainer(containerId).length === 0) return;
    this.#waiting.add(containerId);
    this.#waiters.settle();
  }

  /** Runs until the signal is aborted; retries after errors. */
  async run(work: Work, signal: AbortSignal): Promise<void> {
    let delays = backoffMs(firstRetryMs, longestRetryMs);
    while (!signal.aborted) {
      await this.#waiters.until(() => this.#waiting.size > 0, signal).catch(() => undefined);
      const some = [...this.#waiting].slice(0, maxAtOnce);
      for (const id of some) this.#waiting.delete(id);
      const attempts = await Promise.all(some.map((id) => this.#attempt(id, signal)));
      if (signal.aborted) return;
      const failed = attempts.find((one) => one !== undefined);
      if (failed === undefined) {
        work.succeeded();
        delays = backoffMs(firstRetryMs, longestRetryMs);
        continue;
      }
      work.failed(failed.error);
      await pause(delays.next().value, signal);
    }
  }

  /** Returns the error, after which the container is waiting again. */
  async #attempt(
    id: string,
    signal: AbortSignal,
  ): Promise<{ readonly error: unknown } | undefined> {
    try {
      await learnAliases(this.#deps, id, signal);
      return undefined;
    } catch (error) {
      this.changed(id);
      return { error };
    }
  }
}

/**
 * Returns the names without the container's own name and its short ID, which Docker lists as well, as stored;
 * `undefined` if none is left.
 */
export function aliasesOf(
  names: readonly string[],
  containerId: string,
  name: string | undefined,
): string | undefined {
  const aliases = new Set(
    names.filter(
      (one) => aliasForm.test(one) && one !== name && one !== containerId.slice(0, shortIdLength),
    ),
  );
  return aliases.size === 0 ? undefined : [...aliases].toSorted().join(',');
}

const shortIdLength = 12;
